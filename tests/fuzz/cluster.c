/*
 * cluster.c - fuzz target: answers to CLUSTER NODES, several of them in one input (separated by a
 * NUL), become a map whose parts agree with each other.
 */
#include "topology/cluster.h"

#include "base/alloc.h"

static void check_map(const struct slotmap *m)
{
    uint32_t owned = 0, counted = 0, moving = 0;

    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (m->owner[slot] != NODE_NONE) {
            CHECK(m->owner[slot] < m->node_count);
            CHECK(m->nodes[m->owner[slot]].is_master);
            owned++;
        }
        CHECK((slotmap_find_move(m, (uint16_t)slot) != NULL) ==
              slotmap_is_moving(m, (uint16_t)slot));
        moving += slotmap_is_moving(m, (uint16_t)slot);
    }
    CHECK(moving == m->move_count);
    for (size_t i = 0; i < m->node_count; i++) {
        const struct slotmap_node *n = &m->nodes[i];

        CHECK(n->addr.host[0] != '\0' && n->id[0] != '\0');
        CHECK(i == 0 || strcmp(m->nodes[i - 1].id, n->id) < 0);
        CHECK(n->master == NODE_NONE || (n->master < m->node_count && !n->is_master));
        CHECK(slotmap_find_addr(m, &n->addr) != NODE_NONE);
        counted += n->slots;
    }
    CHECK(owned == counted);
    for (size_t i = 0; i < m->move_count; i++) {
        CHECK(m->moves[i].from == NODE_NONE || m->moves[i].from < m->node_count);
        CHECK(m->moves[i].to == NODE_NONE || m->moves[i].to < m->node_count);
        CHECK(m->moves[i].from != m->moves[i].to);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cluster_builder *b = cluster_builder_new();
    struct addr asked = {.host = "192.0.2.1", .port = 7000};
    const char *text = (const char *)data, *end = text + size;
    struct slotmap *m, *again;
    char err[128];

    while (text < end) {
        const char *stop = memchr(text, '\0', (size_t)(end - text));
        size_t len = (size_t)((stop != NULL ? stop : end) - text);
        /* A copy of just its size shows a read beyond the end. */
        char *copy = xmalloc(len);

        memcpy(copy, text, len);
        err[0] = '\0';
        if (!cluster_builder_add(b, &asked, copy, len, err, sizeof(err)))
            CHECK(err[0] != '\0');
        free(copy);
        text += len + 1;
    }
    m = cluster_builder_finish(b, 1);
    again = cluster_builder_finish(b, 2);
    check_map(m);
    CHECK(slotmap_same(m, again));
    slotmap_unref(&m);
    slotmap_unref(&again);
    cluster_builder_free(&b);
    return 0;
}
