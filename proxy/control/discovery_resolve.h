/*
 * discovery_resolve.h - where the servers of one upstream are dialled: address_map is applied to
 * every address, and names are resolved, remembered, and looked up again.
 * Layer: control. Thread: discovery. Owner: the upstream's watch.
 */
#ifndef CONTROL_DISCOVERY_RESOLVE_H
#define CONTROL_DISCOVERY_RESOLVE_H

#include "config/config.h"

struct lookups;
struct resolver;

/* `conf` and `lookups` are borrowed; names are looked up again after resolve_ms. */
struct resolver *resolver_new(const struct config_upstream *conf, struct lookups *lookups,
                              uint32_t resolve_ms);
void resolver_free(struct resolver **r);
/* A name that is not remembered, or not looked up lately, is looked up: that is awaited for a
 * moment only (control/lookup.h). False when it has not resolved yet. A name with several addresses
 * keeps to one of them as long as it has it and nobody found it unreachable. */
MUST_CHECK bool resolver_get(struct resolver *r, const struct addr *a, struct sockaddr_any *out);
/* Why resolver_get found nothing. */
const char *resolver_failure(struct resolver *r, const struct addr *a);
/* Takes what was found too late for resolver_get. True: some name has another address now, or its
 * first. */
MUST_CHECK bool resolver_settle(struct resolver *r);
/* The connection was lost: the name is looked up again when next asked for. `unreachable`: there
 * was none to be had; the name's next address takes its turn. */
void resolver_doubt(struct resolver *r, const struct addr *a, bool unreachable);
/* True when the name had several addresses when it was last looked up. */
bool resolver_has_choice(struct resolver *r, const struct addr *a);

#endif
