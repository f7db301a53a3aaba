/*
 * info.c - INFO.
 */
#include "resp/write.h"
#include "session/local.h"

void local_INFO(struct client *c, const struct command *cmd, const struct resp_request *r,
                struct chain *out)
{
    (void)cmd, (void)r;
    resp_write_verbatim(out, c->proto, "", 0);
}
void local_CONFIG_GET(struct client *c, const struct command *cmd, const struct resp_request *r,
                struct chain *out)
{
    (void)cmd, (void)r;
    resp_write_map(out, c->proto, 0);
}
void local_SCAN(struct client *c, const struct command *cmd, const struct resp_request *r,
                struct chain *out)
{
    (void)cmd, (void)r, (void)c;
    resp_write_map(out, c->proto, 0);
}
