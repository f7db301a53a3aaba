#include "masters.h"

#include <errno.h>
#include <unistd.h>

#define REPLY_MAX (1 << 20)

void die(const char *what)
{
    fprintf(stderr, "bareloop: %s (%s)\n", what, errno != 0 ? strerror(errno) : "unexpected");
    exit(1);
}

int must(int result, const char *what)
{
    if (result < 0)
        die(what);
    return result;
}

struct sockaddr_any resolve(const char *host_port)
{
    struct addr name;
    struct sockaddr_any out;

    if (!addr_parse(host_port, strlen(host_port), &name) || !addr_resolve(&name, &out))
        die(host_port);
    return out;
}

/* One line of CLUSTER NODES: "id ip:port@bus flags of ping pong epoch link from-to from-to ...". */
static void take_node(struct masters *m, char *line)
{
    char at[ADDR_TEXT_MAX], flags[128], *range, *rest;
    int slots_at = 0;

    if (sscanf(line, "%*s %260[^@]@%*s %127s %*s %*s %*s %*s %*s %n", at, flags, &slots_at) != 2)
        die(line);
    if (strstr(flags, "master") == NULL || slots_at == 0)
        return;
    if (m->count == MASTERS_MAX)
        die("too many masters");
    m->at[m->count] = resolve(at);
    rest = line + slots_at;
    while ((range = strsep(&rest, " ")) != NULL && *range != '[') {
        char *dash;
        unsigned long from = strtoul(range, &dash, 10);
        unsigned long to = *dash == '-' ? strtoul(dash + 1, NULL, 10) : from;

        for (; dash != range && from <= to && from < SLOTS; from++)
            m->of_slot[from] = (uint8_t)m->count;
    }
    m->count++;
}

void masters_read(struct masters *m, const char *seed)
{
    static const char ask[] = "CLUSTER NODES\r\n";
    static char reply[REPLY_MAX];
    struct sockaddr_any to = resolve(seed);
    int fd = must(socket(to.sa.sa_family, SOCK_STREAM, 0), "socket");
    size_t len = 0;
    char *line, *rest = reply;

    must(connect(fd, &to.sa, to.len), seed);
    must((int)write(fd, ask, sizeof(ask) - 1), "write");
    /* Every line of the text ends in LF and the reply then in CRLF. */
    while (len < 3 || memcmp(reply + len - 3, "\n\r\n", 3) != 0) {
        ssize_t n = read(fd, reply + len, sizeof(reply) - 1 - len);
        if (n <= 0 || *reply == '-')
            die("CLUSTER NODES");
        len += (size_t)n;
    }
    close(fd);
    reply[len - 2] = '\0';
    strsep(&rest, "\n"); /* "$1234" */
    while ((line = strsep(&rest, "\n")) != NULL && *line != '\0')
        take_node(m, line);
    if (m->count == 0)
        die("no master has slots");
}
