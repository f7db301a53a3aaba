#include "topology/nodes_text.h"

#include "base/alloc.h"

/* A piece of the text. */
struct span {
    const char *p;
    size_t n;
};

struct parse {
    struct nodes_text *out;
    size_t line_cap, range_cap, move_cap;
    size_t number; /* of the line, from 1 */
    uint8_t claimed[SLOT_COUNT / 8], bracketed[SLOT_COUNT / 8];
    char *err;
    size_t errlen;
};

static bool bad(struct parse *ps, const char *what, struct span at)
{
    snprintf(ps->err, ps->errlen, "not CLUSTER NODES: line %zu: %s: '%.*s'", ps->number, what,
             (int)MIN(at.n, 60u), at.p);
    return false;
}

/* Room for one more element of an array. */
static void *grow(void *array, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return array;
    *cap = *cap ? *cap * 2 : 16;
    return xrealloc(array, *cap * size);
}

/* Cuts the part before the next `sep` off the front of *rest. */
static struct span cut(struct span *rest, char sep)
{
    const char *end = rest->n > 0 ? memchr(rest->p, sep, rest->n) : NULL;
    struct span part = {rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
    size_t gone = part.n + (end != NULL);

    rest->p += gone;
    rest->n -= gone;
    return part;
}

static bool equals(struct span s, const char *word)
{
    return s.n == strlen(word) && memcmp(s.p, word, s.n) == 0;
}

static bool parse_number(struct span s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0 || s.n > 20)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';

        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return v <= max;
}

static bool parse_id(struct span s, char out[NODE_ID_LEN + 1])
{
    if (s.n == 0 || s.n > NODE_ID_LEN)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            return false;
    }
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

static bool make_addr(struct span host, uint16_t port, struct addr *out)
{
    char text[ADDR_HOST_MAX + 16];
    int n;

    if (host.n > ADDR_HOST_MAX)
        return false;
    n = snprintf(text, sizeof(text), "%.*s:%u", (int)host.n, host.p, port);
    return addr_parse(text, (size_t)n, out);
}

/* ip:port[@cport][,hostname[,name=value...]] */
static bool parse_addr(struct parse *ps, struct span s, struct nodes_line *line)
{
    struct span all = s, head = cut(&s, ','), hostname = cut(&s, ','), host = cut(&head, '@');
    const char *colon = host.n > 0 ? memrchr(host.p, ':', host.n) : NULL;
    uint64_t port;

    if (colon == NULL)
        return bad(ps, "an address without a port", all);
    if (!parse_number((struct span){colon + 1, (size_t)(host.p + host.n - colon - 1)}, UINT16_MAX,
                      &port))
        return bad(ps, "a port that is none", all);
    line->port = (uint16_t)port;
    host.n = (size_t)(colon - host.p);
    if (hostname.n > 0 && memchr(hostname.p, '=', hostname.n) != NULL)
        hostname.n = 0; /* name=value fields, and no host name before them */
    if (equals(hostname, "?"))
        hostname.n = 0;
    if (host.n == 0 || equals(host, "?"))
        host = hostname;
    if (host.n == 0 || port == 0)
        return true;
    if (hostname.n > 0 && make_addr(hostname, (uint16_t)port, &line->addr))
        memcpy(line->hostname, line->addr.host, sizeof(line->hostname));
    if (!make_addr(host, (uint16_t)port, &line->addr))
        return bad(ps, "an address that is none", all);
    return true;
}

static bool parse_flags(struct parse *ps, struct span s, struct nodes_line *line)
{
    static const struct {
        const char *word;
        unsigned flag;
    } known[] = {
        {"myself", NODES_MYSELF},
        {"master", NODES_MASTER},
        {"slave", NODES_REPLICA},
        {"replica", NODES_REPLICA},
        {"fail", NODES_FAIL},
        {"fail?", 0},
        {"pfail", 0},
        {"handshake", NODES_HANDSHAKE},
        {"noaddr", NODES_NOADDR},
        {"nofailover", 0},
        {"noflags", 0},
    };
    struct span all = s;

    if (s.n == 0)
        return bad(ps, "no flags", all);
    while (s.n > 0) {
        struct span word = cut(&s, ',');
        size_t i = 0;

        while (i < ARRAY_LEN(known) && !equals(word, known[i].word))
            i++;
        /* Servers to come may have more flags: any word will do, but not any byte. */
        for (size_t k = 0; i == ARRAY_LEN(known) && k < word.n; k++)
            if (!(word.p[k] >= 'a' && word.p[k] <= 'z') && word.p[k] != '-' && word.p[k] != '?')
                return bad(ps, "flags that are none", all);
        if (i < ARRAY_LEN(known))
            line->flags |= known[i].flag;
    }
    if ((line->flags & NODES_MASTER) && (line->flags & NODES_REPLICA))
        return bad(ps, "both master and replica", all);
    if ((line->flags & NODES_MYSELF) && !(line->flags & (NODES_MASTER | NODES_REPLICA)))
        return bad(ps, "myself is neither master nor replica", all);
    return true;
}

static bool parse_slot(struct span s, uint16_t *out)
{
    uint64_t v;

    if (!parse_number(s, SLOT_COUNT - 1, &v))
        return false;
    *out = (uint16_t)v;
    return true;
}

/* Sets the bit of a slot; false when it was set. */
static bool mark(uint8_t *bits, uint16_t slot)
{
    uint8_t bit = (uint8_t)(1u << (slot & 7));

    if (bits[slot >> 3] & bit)
        return false;
    bits[slot >> 3] |= bit;
    return true;
}

/* n or a-b */
static bool parse_range(struct parse *ps, struct span s, struct nodes_line *line)
{
    struct nodes_text *t = ps->out;
    struct span all = s, first = cut(&s, '-');
    struct nodes_range r;

    if (!parse_slot(first, &r.first))
        return bad(ps, "a slot that is none", all);
    r.last = r.first;
    if (first.n < all.n && !parse_slot(s, &r.last))
        return bad(ps, "a slot range that is none", all);
    if (r.last < r.first)
        return bad(ps, "a slot range that runs backwards", all);
    for (unsigned slot = r.first; slot <= r.last; slot++)
        if (!mark(ps->claimed, (uint16_t)slot))
            return bad(ps, "a slot that another line has too", all);
    t->ranges = grow(t->ranges, t->range_count, &ps->range_cap, sizeof(*t->ranges));
    t->ranges[t->range_count++] = r;
    line->range_count++;
    return true;
}

/* [n->-id] or [n-<-id] */
static bool parse_move(struct parse *ps, struct span s)
{
    struct nodes_text *t = ps->out;
    struct span all = s, rest = {s.p + 1, s.n - 2}, slot;
    struct nodes_move mv;

    if (s.n < 2 || s.p[s.n - 1] != ']')
        return bad(ps, "a bracket that is not closed", all);
    slot = cut(&rest, '-');
    if (!parse_slot(slot, &mv.slot) || rest.n < 2 || rest.p[1] != '-' ||
        (rest.p[0] != '>' && rest.p[0] != '<'))
        return bad(ps, "a slot on its way that is none", all);
    mv.importing = rest.p[0] == '<';
    if (!parse_id((struct span){rest.p + 2, rest.n - 2}, mv.peer))
        return bad(ps, "a slot on its way to no node", all);
    if (!mark(ps->bracketed, mv.slot))
        return bad(ps, "a slot that is on its way twice", all);
    t->moves = grow(t->moves, t->move_count, &ps->move_cap, sizeof(*t->moves));
    t->moves[t->move_count++] = mv;
    return true;
}

static bool parse_slots(struct parse *ps, struct span s, struct nodes_line *line)
{
    line->first_range = (uint32_t)ps->out->range_count;
    while (s.n > 0) {
        struct span word = cut(&s, ' ');

        if (word.n == 0)
            continue;
        if (word.p[0] != '[') {
            if (!parse_range(ps, word, line))
                return false;
        } else if (!(line->flags & NODES_MYSELF)) {
            return bad(ps, "a slot on its way that is not told by its own node", word);
        } else if (!parse_move(ps, word)) {
            return false;
        }
    }
    return true;
}

static bool parse_time(struct span s)
{
    uint64_t v;

    if (s.n > 0 && s.p[0] == '-') /* seen as -1 for a node never pinged */
        s = (struct span){s.p + 1, s.n - 1};
    return parse_number(s, UINT64_MAX, &v);
}

static bool parse_line(struct parse *ps, struct span s)
{
    struct nodes_text *t = ps->out;
    struct span all = s, id = cut(&s, ' '), addr = cut(&s, ' '), flags = cut(&s, ' ');
    struct span master = cut(&s, ' '), ping = cut(&s, ' '), pong = cut(&s, ' ');
    struct span epoch = cut(&s, ' '), link = cut(&s, ' ');
    struct nodes_line line = {.flags = 0};

    if (!parse_id(id, line.id))
        return bad(ps, "no node id", all);
    if (!parse_addr(ps, addr, &line) || !parse_flags(ps, flags, &line))
        return false;
    if (!equals(master, "-") && !parse_id(master, line.master))
        return bad(ps, "a master that is no node id", master);
    if (!parse_time(ping) || !parse_time(pong))
        return bad(ps, "a time that is none", all);
    if (!parse_number(epoch, UINT64_MAX, &line.epoch))
        return bad(ps, "a configuration epoch that is none", epoch);
    if (!equals(link, "connected") && !equals(link, "disconnected"))
        return bad(ps, "a link state that is none", link);
    if (!parse_slots(ps, s, &line))
        return false;
    if (t->line_count == NODES_MAX)
        return bad(ps, "too many nodes", all);
    if (line.flags & NODES_MYSELF) {
        if (t->myself != SIZE_MAX)
            return bad(ps, "a second line of myself", all);
        t->myself = t->line_count;
    }
    t->lines = grow(t->lines, t->line_count, &ps->line_cap, sizeof(*t->lines));
    t->lines[t->line_count++] = line;
    return true;
}

static bool parse_all(struct parse *ps, struct span s)
{
    while (s.n > 0) {
        struct span line = cut(&s, '\n');

        ps->number++;
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        if (line.n > 0 && !parse_line(ps, line))
            return false;
    }
    if (ps->out->myself == SIZE_MAX) {
        snprintf(ps->err, ps->errlen, "not CLUSTER NODES: no line of myself");
        return false;
    }
    return true;
}

bool nodes_text_parse(struct nodes_text *out, const char *text, size_t len, char *err,
                      size_t errlen)
{
    struct parse ps = {.out = out, .err = err, .errlen = errlen};

    memset(out, 0, sizeof(*out));
    out->myself = SIZE_MAX;
    if (len > NODES_TEXT_MAX) {
        snprintf(err, errlen, "an answer of %zu bytes; the most is %zu", len, NODES_TEXT_MAX);
        return false;
    }
    if (parse_all(&ps, (struct span){text, len}))
        return true;
    nodes_text_free(out);
    return false;
}

void nodes_text_free(struct nodes_text *t)
{
    free(t->lines);
    free(t->ranges);
    free(t->moves);
    memset(t, 0, sizeof(*t));
}
