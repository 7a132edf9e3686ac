/* PTX text: kernels (.entry) with their parameters, module variables (.global, .const) with plain initial values. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"

struct text {
    const char *at, *end;
};

struct word {
    const char *start;
    size_t length;
};

static const struct {
    const char *name;
    uint32_t bytes;
} types[] = {
    {".b8", 1},   {".u8", 1},  {".s8", 1},  {".b16", 2},   {".u16", 2},    {".s16", 2},     {".f16", 2},
    {".bf16", 2}, {".b32", 4}, {".u32", 4}, {".s32", 4},   {".f32", 4},    {".f16x2", 4},   {".b64", 8},
    {".u64", 8},  {".s64", 8}, {".f64", 8}, {".b128", 16}, {".texref", 8}, {".surfref", 8}, {".samplerref", 8},
};

static void skip_space(struct text *text) {
    while (text->at < text->end) {
        if (isspace((unsigned char)*text->at)) {
            text->at++;
        } else if (text->end - text->at > 1 && text->at[0] == '/' && text->at[1] == '/') {
            const char *line = memchr(text->at, '\n', (size_t)(text->end - text->at));
            text->at = line ? line + 1 : text->end;
        } else if (text->end - text->at > 1 && text->at[0] == '/' && text->at[1] == '*') {
            const char *close = memmem(text->at, (size_t)(text->end - text->at), "*/", 2);
            text->at = close ? close + 2 : text->end;
        } else {
            return;
        }
    }
}

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.' || c == '%' || c == ':';
}

/* The next directive, name, number or single character; length 0 at the end. */
static struct word next_word(struct text *text) {
    skip_space(text);
    struct word word = {text->at, 0};
    if (text->at < text->end && *text->at == '"') { /* a file name or a debug string */
        do
            text->at++;
        while (text->at < text->end && *text->at != '"');
        if (text->at < text->end)
            text->at++;
    } else {
        while (text->at < text->end && is_word(*text->at))
            text->at++;
        if (text->at == word.start && text->at < text->end)
            text->at++;
    }
    word.length = (size_t)(text->at - word.start);
    return word;
}

static bool is(struct word word, const char *text) {
    return word.length == strlen(text) && !memcmp(word.start, text, word.length);
}

static uint64_t number(struct word word) {
    char buffer[40] = "";
    memcpy(buffer, word.start, word.length < sizeof buffer - 1 ? word.length : sizeof buffer - 1);
    if (buffer[0] == '0' && strchr("fFdD", buffer[1]))
        return strtoull(buffer + 2, NULL, 16); /* a float's bits */
    return strtoull(buffer, NULL, 0);
}

static uint32_t type_bytes(struct word word) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (is(word, types[i].name))
            return types[i].bytes;
    return 0;
}

struct declaration {
    struct word name;
    uint32_t align, element;
    uint64_t count;
    bool extern_array;
};

/* `.align 8 .b8 name[16]`, `.u64 .ptr .global .align 4 name`, `.v4 .f32 name`: up to the character after it. */
static struct declaration next_declaration(struct text *text, struct word *ret_after) {
    struct declaration declaration = {.count = 1};
    uint64_t vector = 1;
    struct word word = next_word(text);
    for (; word.length && (word.start[0] == '.' || isdigit((unsigned char)word.start[0])); word = next_word(text)) {
        if (is(word, ".align")) {
            uint32_t align = (uint32_t)number(next_word(text));
            if (!declaration.align || declaration.element == 0)
                declaration.align = align;
        } else if (is(word, ".v2") || is(word, ".v4")) {
            vector = (uint64_t)(word.start[2] - '0');
        } else if (type_bytes(word)) {
            declaration.element = type_bytes(word);
        }
    }
    declaration.name = word;
    for (word = next_word(text); is(word, "["); word = next_word(text)) {
        struct word bound = next_word(text);
        if (is(bound, "]")) {
            declaration.extern_array = true;
            declaration.count = 0;
            continue;
        }
        declaration.count *= number(bound);
        next_word(text); /* ] */
    }
    declaration.element *= (uint32_t)vector;
    if (declaration.align < declaration.element && declaration.count == 1)
        declaration.align = declaration.element;
    if (!declaration.align)
        declaration.align = declaration.element ? declaration.element : 1;
    *ret_after = word;
    return declaration;
}

static bool parse_parameters(struct text *text, struct image_function *function) {
    uint32_t offset = 0;
    struct word word = next_word(text);
    while (is(word, ".param") || is(word, ",")) {
        if (is(word, ",")) {
            word = next_word(text);
            continue;
        }
        struct declaration parameter = next_declaration(text, &word);
        offset = (offset + parameter.align - 1) / parameter.align * parameter.align;
        uint32_t size = (uint32_t)(parameter.element * parameter.count);
        if (!size || !image_add_parameter(function, offset, size))
            return false;
        offset += size;
    }
    return is(word, ")");
}

/* The body up to its closing brace; only the shared memory it declares matters. */
static bool parse_body(struct text *text, struct image_function *function) {
    uint32_t depth = 1;
    while (depth) {
        struct word word = next_word(text);
        if (!word.length)
            return false;
        if (is(word, "{"))
            depth++;
        if (is(word, "}"))
            depth--;
        if (function && (is(word, ".shared") || is(word, ".local"))) {
            uint32_t *total = is(word, ".shared") ? &function->shared_bytes : &function->local_bytes;
            struct declaration variable = next_declaration(text, &word);
            *total += (uint32_t)(variable.element * variable.count);
        }
    }
    return true;
}

static enum image_status parse_entry(struct text *text, uint32_t target, struct image *image) {
    struct word name = next_word(text);
    const char *start = name.start;
    if (image_find_function(image, name.start, name.length))
        return IMAGE_MALFORMED;
    struct image_function *function = image_add_function(image, name.start, name.length);
    if (!function)
        return IMAGE_NO_MEMORY;
    function->ptx_version = target;
    struct word word = next_word(text);
    if (is(word, "(")) {
        if (!parse_parameters(text, function))
            return IMAGE_MALFORMED;
        word = next_word(text);
    }
    while (word.length && !is(word, "{") && !is(word, ";")) {
        if (is(word, ".maxntid") || is(word, ".reqntid")) {
            uint64_t threads = number(next_word(text));
            for (word = next_word(text); is(word, ","); word = next_word(text))
                threads *= number(next_word(text));
            function->max_threads = (uint32_t)threads;
        } else {
            word = next_word(text);
        }
    }
    if (is(word, "{") && !parse_body(text, function))
        return IMAGE_MALFORMED;
    image->code_bytes += (uint64_t)(text->at - start);
    return IMAGE_OK;
}

static enum image_status parse_variable(struct text *text, struct image *image) {
    struct word after;
    struct declaration declaration = next_declaration(text, &after);
    uint64_t bytes = declaration.element * declaration.count;
    if (!declaration.name.length || !declaration.element)
        return IMAGE_MALFORMED;
    struct image_variable *variable = image_add_variable(image, declaration.name.start, declaration.name.length, bytes);
    if (!variable)
        return IMAGE_NO_MEMORY;
    if (!is(after, "="))
        return IMAGE_OK;
    unsigned char *initial = variable->initial = calloc(1, bytes ? bytes : 1);
    if (!initial)
        return IMAGE_NO_MEMORY;
    uint64_t offset = 0;
    bool negative = false;
    for (struct word word = next_word(text); word.length && !is(word, ";"); word = next_word(text)) {
        if (is(word, "-"))
            negative = true;
        if (!isdigit((unsigned char)word.start[0]))
            continue;
        uint64_t value = negative ? -number(word) : number(word);
        negative = false;
        if (offset + declaration.element <= bytes && declaration.element <= sizeof value)
            memcpy(initial + offset, &value, declaration.element);
        offset += declaration.element;
    }
    return IMAGE_OK;
}

/* `sm_90`, `sm_90a`, `compute_120f`: the number. */
static uint32_t target_of(struct word word) {
    const char *digits = memchr(word.start, '_', word.length);
    return digits ? (uint32_t)strtoul(digits + 1, NULL, 10) : 0;
}

enum image_status image_parse_ptx(const char *start, size_t length, uint32_t capability, struct image *image) {
    struct text text = {start, start + length};
    uint32_t target = 0;
    enum image_status status = IMAGE_OK;
    for (struct word word = next_word(&text); !status && word.length; word = next_word(&text)) {
        if (is(word, ".target")) {
            target = target_of(next_word(&text));
            if (target > capability)
                return IMAGE_WRONG_TARGET;
        } else if (is(word, ".entry")) {
            status = parse_entry(&text, target, image);
        } else if (is(word, ".global") || is(word, ".const")) {
            status = parse_variable(&text, image);
        } else if (is(word, "{")) { /* the body of a .func */
            if (!parse_body(&text, NULL))
                status = IMAGE_MALFORMED;
        }
    }
    if (!status && !target)
        status = IMAGE_MALFORMED;
    return status;
}
