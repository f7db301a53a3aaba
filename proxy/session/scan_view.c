#include "session/scan_view.h"

#include "base/log.h"
#include "resp/reply.h"

bool scan_view_parse(struct scan_view *v, const struct request *part)
{
    const char *p = request_reply(part), *end = p + part->reply_len;
    struct resp_item item;
    char why[160];

    if (!resp_next(&p, end, &item) || (item.type != '$' && item.type != '='))
        return false;
    if (item.type == '=' && item.len >= 4) { /* "txt:" */
        item.data += 4;
        item.len -= 4;
    }
    if (!nodes_text_parse(&v->text, item.data, item.len, why, sizeof(why))) {
        log_warn("SCAN: CLUSTER NODES was answered with %s", why);
        return false;
    }
    v->self = &v->text.lines[v->text.myself];
    return true;
}

void scan_view_free(struct scan_view *v)
{
    nodes_text_free(&v->text);
}

uint32_t scan_view_owned(const struct scan_view *v, uint16_t first, uint16_t last)
{
    uint32_t owned = 0;

    if ((v->self->flags & NODES_MASTER) == 0)
        return 0;
    for (uint32_t i = 0; i < v->self->range_count; i++) {
        const struct nodes_range *r = &v->text.ranges[v->self->first_range + i];
        uint16_t a = MAX(r->first, first), b = MIN(r->last, last);

        if (a <= b)
            owned += b - a + 1u;
    }
    return owned;
}

const struct nodes_move *scan_view_move(const struct scan_view *v, uint16_t slot)
{
    for (size_t i = 0; i < v->text.move_count; i++)
        if (v->text.moves[i].slot == slot)
            return &v->text.moves[i];
    return NULL;
}

bool scan_view_has_whole(const struct scan_view *v, uint16_t first, uint16_t last)
{
    for (size_t i = 0; i < v->text.move_count; i++)
        if (v->text.moves[i].slot >= first && v->text.moves[i].slot <= last)
            return false;
    return scan_view_owned(v, first, last) == last - first + 1u;
}
