// An entry processor in plain C, without an SDK and without a C library: proof that none is needed.
//
// `upper` makes the ASCII letters of a value upper-case and answers how many it changed, as decimal text. A key without
// a value fails with code 1. A value that has nothing to change is left alone.
//
// It implements the world `simple-entry-processor` of wit/wattle.wit. How the types of that file look to a core module
// is what the canonical ABI of the component model says: records are laid out like structs, a list or string is a
// pointer and a length, a variant is a tag before its payload. Up to 16 numbers are passed as parameters of their own.

#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

// The world in binary form: it makes a component of the module. `build.sh` says where the file is.
__asm__(".section \".custom_section.component-type:wattle:grid:simple-entry-processor\",\"\",@\n"
        ".incbin \"simple-entry-processor.bin\"\n");

// --- What the types of the WIT look like in memory ---

typedef struct { const uint8_t *start; size_t length; } list;

typedef struct { list name; uint8_t read_only; uint8_t deterministic; } function_info;

enum { KEEP, PUT, PUT_WITH_TTL, REMOVE };

typedef struct { list value; uint64_t ttl_ms; } timed_value;

typedef struct { uint8_t tag; union { list put; timed_value put_with_ttl; } value; } effect;

typedef struct { effect effect; list response; } answer;

typedef struct { uint32_t code; list message; } failure;

typedef struct { uint8_t is_failure; union { answer answer; failure failure; } value; } result;

_Static_assert(sizeof(effect) == 24 && sizeof(answer) == 32 && sizeof(result) == 40, "the layout of the WIT's types");
_Static_assert(offsetof(result, value) == 8 && offsetof(effect, value) == 8, "the layout of the WIT's types");

#define TEXT(literal) ((list){(const uint8_t *)(literal), sizeof(literal) - 1})

// --- Memory: what a call needs is taken off the heap in one direction, and all of it is free when the next begins ---

#define PAGE_BYTES 65536

extern uint8_t __heap_base;
static uintptr_t heap_end;
static int call_is_over = 1;

// Gives no memory by trapping: then the call fails and the grid starts the module anew.
static void *allocate(size_t align, size_t size) {
    if (call_is_over) {
        call_is_over = 0;
        heap_end = (uintptr_t)&__heap_base;
    }
    uintptr_t start = (heap_end + align - 1) & ~(uintptr_t)(align - 1);
    uintptr_t end = start + size;
    if (end < start) __builtin_trap();
    uintptr_t have = __builtin_wasm_memory_size(0) * PAGE_BYTES;
    if (end > have) {
        uintptr_t pages = (end - have + PAGE_BYTES - 1) / PAGE_BYTES;
        if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) __builtin_trap();
    }
    heap_end = end;
    return (void *)start;
}

// The grid calls this to pass in keys, values and arguments.
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    uint8_t *new = allocate(align, size);
    for (size_t i = 0; i < old_size && i < size; i++) new[i] = ((uint8_t *)old)[i];
    return new;
}

// --- The functions of the world ---

EXPORT("manifest")
const list *manifest(void) {
    static const function_info functions[] = {
        {.name = {(const uint8_t *)"upper", 5}, .read_only = 0, .deterministic = 1},
    };
    static const list all = {(const uint8_t *)functions, sizeof functions / sizeof functions[0]};
    call_is_over = 1;
    return &all;
}

static list decimal(size_t number) {
    static uint8_t digits[20];
    size_t start = sizeof digits;
    do {
        digits[--start] = '0' + number % 10;
        number /= 10;
    } while (number != 0);
    return (list){digits + start, sizeof digits - start};
}

static size_t to_upper(const uint8_t *from, uint8_t *to, size_t length) {
    size_t changed = 0;
    for (size_t i = 0; i < length; i++) {
        int is_lower = from[i] >= 'a' && from[i] <= 'z';
        to[i] = is_lower ? from[i] - 'a' + 'A' : from[i];
        changed += is_lower;
    }
    return changed;
}

// The records `context` and `entry` come as one parameter for each of their fields.
EXPORT("process-entry")
const result *process_entry(
    uint32_t function, const uint8_t *map_name, size_t map_name_length, uint64_t now_ms,
    const uint8_t *key, size_t key_length,
    uint32_t has_value, const uint8_t *value, size_t value_length,
    uint64_t version, uint32_t has_ttl, uint64_t ttl_ms,
    const uint8_t *argument, size_t argument_length
) {
    // Where the answer lies must stay as it is until the grid has read it, which it has before the next call.
    static result result;
    if (!has_value) {
        result.is_failure = 1;
        result.value.failure = (failure){1, TEXT("there is nothing under this key")};
    } else {
        uint8_t *upper = allocate(1, value_length);
        size_t changed = to_upper(value, upper, value_length);
        result.is_failure = 0;
        result.value.answer.response = decimal(changed);
        result.value.answer.effect.tag = changed ? PUT : KEEP;
        result.value.answer.effect.value.put = (list){upper, value_length};
    }
    call_is_over = 1;
    return &result;
}
