#include "session/reply_mode.h"

#include "resp/write.h"
#include "session/error.h"
#include "session/local.h"

void reply_mode_begin(struct client *c)
{
    if (c->reply_mode == REPLY_SKIP_NEXT)
        c->reply_mode = REPLY_SKIP;
}

void reply_mode_end(struct client *c)
{
    /* CLIENT REPLY SKIP, when it was itself skipped, has asked for the next one. */
    if (c->reply_mode == REPLY_SKIP)
        c->reply_mode = REPLY_ON;
}

void local_CLIENT_REPLY(struct client *c, const struct command *cmd, const struct resp_request *r,
                        struct chain *out)
{
    (void)cmd;
    if (resp_arg_is(r, 2, "on")) {
        c->reply_mode = REPLY_ON;
        resp_write_simple(out, "OK");
    } else if (resp_arg_is(r, 2, "off")) {
        c->reply_mode = REPLY_OFF;
    } else if (resp_arg_is(r, 2, "skip")) {
        if (c->reply_mode != REPLY_OFF)
            c->reply_mode = REPLY_SKIP_NEXT;
    } else {
        error_write(out, ERROR_SYNTAX);
    }
}
