#include "session/error.h"

#include "resp/write.h"

static const char *const texts[ERROR_COUNT] = {
#define ERROR(name, text) [ERROR_##name] = text,
#include "session/error.def"
#undef ERROR
};

const char *error_text(enum error_id id)
{
    return texts[id];
}

void error_write(struct chain *out, enum error_id id)
{
    resp_write_error(out, "%s", texts[id]);
}
