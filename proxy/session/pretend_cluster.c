/*
 * pretend_cluster.c - CLUSTER and ROLE: a cluster of one master, the proxy, which owns all slots.
 *
 * A client that routes by slots itself finds everything here and never learns of a real node.
 */
#include "base/crc16.h"
#include "resp/write.h"
#include "session/error.h"
#include "session/local.h"
#include "session/pretend.h"
#include "session/scatter.h"

/* A node's bus port: clients read it, nobody connects to it. */
#define BUS_PORT(port) ((unsigned)(port) + 10000u)

HANDLER(CLUSTER_SLOTS)
{
    struct pretend_self self;

    UNUSED;
    pretend_self(c, &self);
    resp_write_array(out, 1);
    resp_write_array(out, 3);
    resp_write_int(out, 0);
    resp_write_int(out, SLOT_COUNT - 1);
    resp_write_array(out, 4);
    resp_write_text(out, self.host);
    resp_write_int(out, self.port);
    resp_write_text(out, self.id);
    resp_write_map(out, c->proto, self.is_name);
    if (self.is_name) {
        resp_write_text(out, "ip");
        resp_write_text(out, self.ip);
    }
}

HANDLER(CLUSTER_SHARDS)
{
    struct pretend_self self;

    UNUSED;
    pretend_self(c, &self);
    resp_write_array(out, 1);
    resp_write_map(out, c->proto, 2);
    resp_write_text(out, "slots");
    resp_write_array(out, 2);
    resp_write_int(out, 0);
    resp_write_int(out, SLOT_COUNT - 1);
    resp_write_text(out, "nodes");
    resp_write_array(out, 1);
    resp_write_map(out, c->proto, self.is_name ? 8 : 7);
    resp_write_text(out, "id");
    resp_write_text(out, self.id);
    resp_write_text(out, "port");
    resp_write_int(out, self.port);
    resp_write_text(out, "ip");
    resp_write_text(out, self.ip);
    resp_write_text(out, "endpoint");
    resp_write_text(out, self.host);
    if (self.is_name) {
        resp_write_text(out, "hostname");
        resp_write_text(out, self.host);
    }
    resp_write_text(out, "role");
    resp_write_text(out, "master");
    resp_write_text(out, "replication-offset");
    resp_write_int(out, 0);
    resp_write_text(out, "health");
    resp_write_text(out, "online");
}

HANDLER(CLUSTER_NODES)
{
    struct pretend_self self;
    char line[2 * ADDR_HOST_MAX + 160];
    int n;

    UNUSED;
    pretend_self(c, &self);
    n = snprintf(line, sizeof(line), "%s %s:%u@%u%s%s myself,master - 0 0 1 connected 0-%d\n",
                 self.id, self.ip, self.port, BUS_PORT(self.port), self.is_name ? "," : "",
                 self.is_name ? self.host : "", SLOT_COUNT - 1);
    resp_write_verbatim(out, c->proto, line, (size_t)n);
}

/* The proxy owns all slots; those that none of its servers serves are what is wrong with it. */
HANDLER(CLUSTER_INFO)
{
    const struct slotmap *m = c->up->map;
    unsigned served = 0;
    char text[512];
    int n;

    UNUSED;
    for (uint32_t s = 0; s < SLOT_COUNT; s++)
        served += m->owner[s] != NODE_NONE;
    n = snprintf(text, sizeof(text),
                 "cluster_state:%s\r\n"
                 "cluster_slots_assigned:%d\r\n"
                 "cluster_slots_ok:%u\r\n"
                 "cluster_slots_pfail:0\r\n"
                 "cluster_slots_fail:%u\r\n"
                 "cluster_known_nodes:1\r\n"
                 "cluster_size:1\r\n"
                 "cluster_current_epoch:1\r\n"
                 "cluster_my_epoch:1\r\n"
                 "cluster_stats_messages_sent:0\r\n"
                 "cluster_stats_messages_received:0\r\n"
                 "total_cluster_links_buffer_limit_exceeded:0\r\n",
                 served == SLOT_COUNT ? "ok" : "fail", SLOT_COUNT, served, SLOT_COUNT - served);
    resp_write_verbatim(out, c->proto, text, (size_t)n);
}

HANDLER(CLUSTER_MYID)
{
    struct pretend_self self;

    UNUSED;
    pretend_self(c, &self);
    resp_write_text(out, self.id);
}

HANDLER(CLUSTER_MYSHARDID)
{
    struct pretend_self self;
    char id[SHA1_HEX_LEN + 1];

    UNUSED;
    pretend_self(c, &self);
    pretend_id(&self, "shard", id);
    resp_write_text(out, id);
}

HANDLER(CLUSTER_KEYSLOT)
{
    UNUSED;
    resp_write_int(out, key_slot(resp_arg_ptr(r, 2), resp_arg_len(r, 2)));
}

HANDLER(CLUSTER_LINKS)
{
    UNUSED;
    resp_write_array(out, 0);
}

HANDLER(CLUSTER_REPLICAS)
{
    struct pretend_self self;

    UNUSED;
    pretend_self(c, &self);
    if (resp_arg_len(r, 2) == SHA1_HEX_LEN &&
        memcmp(resp_arg_ptr(r, 2), self.id, SHA1_HEX_LEN) == 0)
        resp_write_array(out, 0);
    else
        resp_write_error(out, "ERR Unknown node %.*s", (int)MIN(resp_arg_len(r, 2), 128u),
                         resp_arg_ptr(r, 2));
}

/* --- what is in a slot: its owner knows --- */

static void pass_on(struct client *c, struct request *parent, struct chain *out)
{
    (void)c;
    request_move_reply(parent->scatter->parts, out);
}

static void ask_owner(struct client *c, const struct command *cmd, const struct resp_request *r,
                      int64_t slot)
{
    struct request *parent = scatter_open(c, cmd, pass_on, NULL);

    scatter_add(c, parent, (uint16_t)slot, r->base, r->len);
    scatter_close(c, parent);
}

HANDLER(CLUSTER_COUNTKEYSINSLOT)
{
    int64_t slot;

    if (!resp_arg_int(r, 2, &slot))
        error_write(out, ERROR_NOT_INTEGER);
    else if (slot < 0 || slot >= SLOT_COUNT)
        resp_write_error(out, "ERR Invalid slot");
    else
        ask_owner(c, cmd, r, slot);
}

HANDLER(CLUSTER_GETKEYSINSLOT)
{
    int64_t slot, count;

    if (!resp_arg_int(r, 2, &slot) || !resp_arg_int(r, 3, &count))
        error_write(out, ERROR_NOT_INTEGER);
    else if (slot < 0 || slot >= SLOT_COUNT || count < 0)
        resp_write_error(out, "ERR Invalid slot or number of keys");
    else
        ask_owner(c, cmd, r, slot);
}

HANDLER(CLUSTER_HELP)
{
    static const char *const lines[] = {
        "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "COUNTKEYSINSLOT <slot>",
        "    Return the number of keys in <slot>.",
        "GETKEYSINSLOT <slot> <count>",
        "    Return key names in a slot.",
        "INFO",
        "    Return information about the cluster.",
        "KEYSLOT <key>",
        "    Return the hash slot for <key>.",
        "LINKS",
        "    Return information about links to peers: there are none.",
        "MYID",
        "    Return the node id.",
        "MYSHARDID",
        "    Return the shard id.",
        "NODES",
        "    Return cluster configuration: one master that owns all slots.",
        "REPLICAS <node-id>",
        "    Return <node-id> replicas: there are none.",
        "SHARDS",
        "    Return information about slot range mappings and the nodes associated with them.",
        "SLOTS",
        "    Return information about slots range mappings.",
        "HELP",
        "    Print this help.",
    };

    UNUSED;
    local_help(lines, ARRAY_LEN(lines), out);
}

HANDLER(ROLE)
{
    UNUSED;
    resp_write_array(out, 3);
    resp_write_text(out, "master");
    resp_write_int(out, 0);
    resp_write_array(out, 0);
}
