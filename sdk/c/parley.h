/* parley.h - write plugins for Parley in C: this header, clang, no libc.
 *
 *   #include "parley.h"
 *
 *   static char memory[PARLEY_MESSAGE];
 *
 *   PARLEY_HOOK(on_authenticate) {
 *     parley_buffer in = PARLEY_BUFFER(memory);
 *     parley_message request;
 *     int32_t error = parley_input(&in, &request);
 *     if (error < 0) return parley_fail(error, PARLEY_TEXT("cannot read the request"));
 *     if (!PARLEY_IS(parley_get_text(request, PARLEY_FIELD_USERNAME), "alice")) return PARLEY_NEXT;
 *     return parley_answer(PARLEY_FIELD_PASSWORD, PARLEY_TEXT("wonderland"));
 *   }
 *
 * parley_registry.h has the hooks, the fields of their messages and the
 * services; ABI.md has the contract in words.
 *
 * How it works:
 *
 *   - Texts and octets are views: a pointer and a size, without a 0 at the end.
 *     A view points into memory that belongs to somebody else, such as the
 *     buffer that a message was read into, and is good until that changes.
 *   - Nothing is allocated. What needs room gets a parley_buffer: an array of
 *     the plugin's, with how much of it is in use.
 *   - Nothing is cut without a word. What is larger than its buffer is the error
 *     PARLEY_ETOOBIG where it is read, and a failure of the call where a reply
 *     or a request is written.
 *   - Functions that can fail return an int32_t: below zero it is one of
 *     parley_registry.h's PARLEY_E…, otherwise the call has worked.
 *   - Globals live from call to call, in this instance. There may be several
 *     instances, and an instance may go at any time; one runs one call at a time.
 *
 * On another target than WebAssembly the header compiles too, for unit tests:
 * there the tests define parley_read, parley_write, parley_log and parley_call.
 */
#ifndef PARLEY_H
#define PARLEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parley_registry.h"

/* Size of the largest message in octets, unless the operator says otherwise. */
#define PARLEY_MESSAGE 65536

/* ---- Exports ---- */

#ifdef __wasm__
#define PARLEY_EXPORT(name) __attribute__((export_name(name)))
#define PARLEY_IMPORT(name) __attribute__((import_module(PARLEY_MODULE), import_name(name)))
#else
#define PARLEY_EXPORT(name)
#define PARLEY_IMPORT(name)
#endif

/* Functions that are called rather than copied to where they are called from,
 * which makes plugins half as large. */
#ifdef __wasm__
#define PARLEY_FUNCTION static inline __attribute__((noinline))
#else
#define PARLEY_FUNCTION static inline
#endif

/* PARLEY_HOOK(on_authenticate) { … } defines and exports the function of a hook.
 * It returns PARLEY_NEXT, PARLEY_DONE, PARLEY_DENY, or a number below zero: it
 * has failed. Its parameter is size, the octets of the hook's message; in on_load
 * of the configuration. */
#define PARLEY_HOOK(name) \
  PARLEY_EXPORT(#name) int32_t name(uint32_t size); \
  int32_t name(__attribute__((unused)) uint32_t size)

/* The version of the contract that the plugin was built for. It is what makes a
 * module a plugin. Weak, since each file of a plugin that includes this has it. */
PARLEY_EXPORT("parley_abi") __attribute__((weak)) int32_t parley_abi(void);
__attribute__((weak)) int32_t parley_abi(void) { return PARLEY_MAJOR << 16 | PARLEY_MINOR; }

/* ---- Imports: what the host offers, as it is. The rest of this file is made of them. ---- */

/* Copies up to capacity octets of a source (PARLEY_SOURCE_…), from offset on, to
 * destination. Returns the size of the whole source, or EINVAL: no such source. */
PARLEY_IMPORT("read") int32_t parley_read(uint32_t source, uint32_t offset, void *destination, uint32_t capacity);

/* Appends octets to a sink (PARLEY_SINK_…). Returns the size of the sink so far,
 * or ETOOBIG, which leaves the sink as it was, or EINVAL: no such sink here. */
PARLEY_IMPORT("write") int32_t parley_write(uint32_t sink, const void *data, uint32_t size);

/* Logs a line at a level (PARLEY_LEVEL_…). It is cut at 4096 octets. */
PARLEY_IMPORT("log") void parley_log(uint32_t level, const void *data, uint32_t size);

/* Asks a service (PARLEY_SERVICE_…); the request is an encoded message. Returns
 * the size of the result, which source result holds until the next call, or an
 * error. */
PARLEY_IMPORT("call") int32_t parley_call(uint32_t service, const void *request, uint32_t size);

/* ---- What the compiler expects of a libc ---- */

#if defined(__wasm__) && !defined(__wasm_bulk_memory__)
/* clang makes calls of these from loops and assignments, even without a libc.
 * With -mbulk-memory they are instructions, which is smaller and faster. */
__attribute__((weak, no_builtin)) void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  for (size_t i = 0; i < size; i++) ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
  return to;
}
__attribute__((weak, no_builtin)) void *memset(void *to, int octet, size_t size) {
  for (size_t i = 0; i < size; i++) ((unsigned char *)to)[i] = (unsigned char)octet;
  return to;
}
__attribute__((weak, no_builtin)) void *memmove(void *to, const void *from, size_t size) {
  unsigned char *t = to;
  const unsigned char *f = from;
  if ((uintptr_t)t < (uintptr_t)f) {
    for (size_t i = 0; i < size; i++) t[i] = f[i];
  } else {
    for (size_t i = size; i > 0; i--) t[i - 1] = f[i - 1];
  }
  return to;
}
#endif

/* ---- Views: texts and octets ---- */

/* A view of size octets at data. data is NULL if there is nothing to view: a
 * field that is absent, say. A text that is empty has size 0 and some pointer. */
typedef struct {
  const char *data;
  uint32_t size;
} parley_view;

/* The view that there is nothing. */
#define PARLEY_NONE ((parley_view){NULL, 0})

/* A view of a string literal, without the 0 at its end. */
#define PARLEY_TEXT(literal) ((parley_view){"" literal "", (uint32_t)sizeof(literal) - 1})

/* Whether a view is equal to a string literal. */
#define PARLEY_IS(view, literal) parley_equal((view), PARLEY_TEXT(literal))

/* Whether a and b have the same octets; PARLEY_NONE is as good as an empty text.
 * It stops at the first difference, so do not compare secrets by it: how long it
 * takes tells how much is right. */
PARLEY_FUNCTION bool parley_equal(parley_view a, parley_view b) {
  if (a.size != b.size) return false;
  if (a.data == NULL || b.data == NULL) return a.size == 0;
  for (uint32_t i = 0; i < a.size; i++) {
    if (a.data[i] != b.data[i]) return false;
  }
  return true;
}

/* Whether a view can be read: false of the content of a buffer that has overflown. */
static inline bool parley_is_whole(parley_view v) { return v.data != NULL || v.size == 0; }

/* Whether text begins with prefix. */
PARLEY_FUNCTION bool parley_has_prefix(parley_view text, parley_view prefix) {
  return prefix.size <= text.size && parley_equal((parley_view){text.data, prefix.size}, prefix);
}

/* Cuts text in two at the first separator: *head is what is before it, *tail what
 * is after it. Without a separator returns false; then all of text is in *head
 * and *tail is PARLEY_NONE. head and tail may be &text. */
PARLEY_FUNCTION bool parley_cut(parley_view text, char separator, parley_view *head, parley_view *tail) {
  for (uint32_t i = 0; text.data != NULL && i < text.size; i++) {
    if (text.data[i] == separator) {
      *head = (parley_view){text.data, i};
      *tail = (parley_view){text.data + i + 1, text.size - i - 1};
      return true;
    }
  }
  *head = text;
  *tail = PARLEY_NONE;
  return false;
}

/* Reads a decimal number: digits only, at least one, up to 18446744073709551615.
 * Returns whether text is one; if not, *value stays what it was. */
PARLEY_FUNCTION bool parley_parse_uint(parley_view text, uint64_t *value) {
  if (text.data == NULL || text.size == 0) return false;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < text.size; i++) {
    uint32_t digit = (uint32_t)(uint8_t)text.data[i] - '0';
    if (digit > 9 || sum > (UINT64_MAX - digit) / 10) return false;
    sum = sum * 10 + digit;
  }
  *value = sum;
  return true;
}

/* Whether text is UTF-8 (RFC 3629: no surrogates, nothing above U+10FFFF, no
 * character in more octets than it needs). */
PARLEY_FUNCTION bool parley_is_utf8(parley_view text) {
  if (text.data == NULL) return parley_is_whole(text);
  for (uint32_t i = 0; i < text.size;) {
    uint8_t lead = (uint8_t)text.data[i++];
    if (lead < 0x80) continue;
    uint32_t more = 0;
    uint8_t low = 0x80, high = 0xbf; /* what the second octet may be */
    if (lead >= 0xc2 && lead <= 0xdf) {
      more = 1;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    } else {
      return false;
    }
    if (more > text.size - i) return false;
    for (; more > 0; more--) {
      uint8_t octet = (uint8_t)text.data[i++];
      if (octet < low || octet > high) return false;
      low = 0x80;
      high = 0xbf;
    }
  }
  return true;
}

/* ---- Buffers: texts and messages to be made ---- */

/* An array of capacity octets, of which the first size are in use. What does not
 * fit is not appended, nor is anything after it: overflow stays true. Sending an
 * overflown buffer is an error, so that it need not be looked at before. */
typedef struct {
  char *data;
  uint32_t capacity;
  uint32_t size;
  bool overflow;
} parley_buffer;

/* An empty buffer on a char array, up to 2 GiB. */
#define PARLEY_BUFFER(array) ((parley_buffer){(array), (uint32_t)sizeof(array), 0, false})

/* Empties b. */
static inline void parley_reset(parley_buffer *b) {
  b->size = 0;
  b->overflow = false;
}

/* A view of what is in b, until b changes. If b has overflown, it is a view that
 * cannot be read and that makes every buffer overflow that it is appended to. */
static inline parley_view parley_content(const parley_buffer *b) {
  return b->overflow ? (parley_view){NULL, UINT32_MAX} : (parley_view){b->data, b->size};
}

/* Takes size octets at the end of b; NULL if they do not fit. For those below. */
static inline char *parley_take(parley_buffer *b, uint32_t size) {
  if (b->overflow || size > b->capacity - b->size) {
    b->overflow = true;
    return NULL;
  }
  char *p = b->data + b->size;
  b->size += size;
  return p;
}

/* Appends octets as they are. text must not be of b itself. */
PARLEY_FUNCTION void parley_add(parley_buffer *b, parley_view text) {
  char *p = parley_take(b, text.size);
  if (p != NULL && text.size > 0) __builtin_memcpy(p, text.data, text.size);
}

/* Appends value in decimal. */
PARLEY_FUNCTION void parley_add_uint(parley_buffer *b, uint64_t value) {
  char digits[20];
  uint32_t first = sizeof digits;
  do {
    digits[--first] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  parley_add(b, (parley_view){digits + first, (uint32_t)sizeof digits - first});
}

/* Appends value in decimal, with a minus sign if it is below zero. */
static inline void parley_add_int(parley_buffer *b, int64_t value) {
  if (value < 0) parley_add(b, PARLEY_TEXT("-"));
  parley_add_uint(b, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

/* Appends octets in lower-case hex, two digits each. */
PARLEY_FUNCTION void parley_add_hex(parley_buffer *b, parley_view octets) {
  static const char digits[] = "0123456789abcdef";
  char *p = parley_take(b, octets.size > UINT32_MAX / 2 ? UINT32_MAX : octets.size * 2);
  if (p == NULL) return;
  for (uint32_t i = 0; i < octets.size; i++) {
    p[2 * i] = digits[(uint8_t)octets.data[i] >> 4];
    p[2 * i + 1] = digits[(uint8_t)octets.data[i] & 15];
  }
}

/* ---- Numbers in messages: little endian, anywhere in memory ---- */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as WebAssembly is");

/* octets is a constant up to 8: this becomes one load or store, which need not be
 * aligned. */
static inline uint64_t parley_little(const char *p, uint32_t octets) {
  uint64_t value = 0;
  __builtin_memcpy(&value, p, octets);
  return value;
}

static inline void parley_put_little(char *p, uint64_t value, uint32_t octets) { __builtin_memcpy(p, &value, octets); }

/* ---- Reading messages ---- */

/* Octets before each value: field (2), type (2), size (4). */
#define PARLEY_HEADER 8u

/* An encoded message, or a message in it. */
typedef struct {
  const char *data;
  uint32_t size;
} parley_message;

/* A name and the text that belongs to it: a parameter, an attribute, a label or
 * a header field. Either is PARLEY_NONE if it is absent. */
typedef struct {
  parley_view name;
  parley_view text;
} parley_pair;

/* Walks over the fields of a message:
 *
 *   parley_reader r = parley_fields(request);
 *   while (parley_next(&r)) {
 *     if (r.field == PARLEY_FIELD_OFFER) use(parley_value_message(&r));
 *   }
 *   if (r.malformed) …
 *
 * It checks sizes, and the type and value of each field that is asked for. A
 * fault ends the walk and sets malformed. (Of what the host sends, nothing is.)
 * Skip the fields that you do not know: later versions add some. */
typedef struct {
  uint16_t field; /* of the current field: PARLEY_FIELD_… or a private one */
  uint16_t type;  /* likewise: PARLEY_TYPE_… */
  bool malformed;
  parley_view value; /* likewise, whatever the type */
  const char *rest;  /* what has not been walked over */
  uint32_t left;     /* octets of it */
} parley_reader;

/* A reader before the first field of message. */
static inline parley_reader parley_fields(parley_message message) {
  return (parley_reader){.rest = message.data, .left = message.size};
}

/* Goes on to the next field; returns whether there is one. */
PARLEY_FUNCTION bool parley_next(parley_reader *r) {
  if (r->malformed || r->left == 0) return false;
  uint32_t size = r->left < PARLEY_HEADER ? 0 : (uint32_t)parley_little(r->rest + 4, 4);
  if (r->left < PARLEY_HEADER || size > r->left - PARLEY_HEADER) {
    r->malformed = true;
    return false;
  }
  r->field = (uint16_t)parley_little(r->rest, 2);
  r->type = (uint16_t)parley_little(r->rest + 2, 2);
  r->value = (parley_view){r->rest + PARLEY_HEADER, size};
  r->rest += PARLEY_HEADER + size;
  r->left -= PARLEY_HEADER + size;
  return true;
}

/* Whether the current field has a type. If not, the message is malformed. */
static inline bool parley_expect(parley_reader *r, uint16_t type) {
  if (r->type != type) r->malformed = true;
  return !r->malformed;
}

/* The current field's value, of type bytes. PARLEY_NONE if it is not. */
static inline parley_view parley_value_bytes(parley_reader *r) {
  return parley_expect(r, PARLEY_TYPE_BYTES) ? r->value : PARLEY_NONE;
}

/* The current field's value, of type text. PARLEY_NONE if it is not, or is not UTF-8. */
PARLEY_FUNCTION parley_view parley_value_text(parley_reader *r) {
  if (parley_expect(r, PARLEY_TYPE_TEXT) && !parley_is_utf8(r->value)) r->malformed = true;
  return r->malformed ? PARLEY_NONE : r->value;
}

/* The current field's value, of type uint. 0 if it is not. */
static inline uint64_t parley_value_uint(parley_reader *r) {
  if (parley_expect(r, PARLEY_TYPE_UINT) && r->value.size != 8) r->malformed = true;
  return r->malformed ? 0 : parley_little(r->value.data, 8);
}

/* The current field's value, of type message. Empty if it is not. */
static inline parley_message parley_value_message(parley_reader *r) {
  if (!parley_expect(r, PARLEY_TYPE_MESSAGE)) return (parley_message){NULL, 0};
  return (parley_message){r->value.data, r->value.size};
}

/* The current field's value, of type message, as name and text. */
PARLEY_FUNCTION parley_pair parley_value_pair(parley_reader *r) {
  parley_pair pair = {PARLEY_NONE, PARLEY_NONE};
  parley_reader in = parley_fields(parley_value_message(r));
  while (parley_next(&in)) {
    if (in.field == PARLEY_FIELD_NAME) pair.name = parley_value_text(&in);
    if (in.field == PARLEY_FIELD_TEXT) pair.text = parley_value_text(&in);
  }
  if (in.malformed) r->malformed = true;
  return r->malformed ? (parley_pair){PARLEY_NONE, PARLEY_NONE} : pair;
}

/* Those below find one field, by walking over the message. Of a field that
 * repeats, the last counts. In a malformed message nothing is found. */

/* Walks to the last field of this number. r->field is not it if there is none. */
PARLEY_FUNCTION parley_reader parley_find(parley_message message, uint16_t field) {
  parley_reader found = parley_fields((parley_message){NULL, 0});
  parley_reader r = parley_fields(message);
  found.malformed = true;
  while (parley_next(&r)) {
    if (r.field == field) found = r;
  }
  if (r.malformed) found.malformed = true;
  return found;
}

/* The text of a field; PARLEY_NONE if it is absent. */
static inline parley_view parley_get_text(parley_message message, uint16_t field) {
  parley_reader r = parley_find(message, field);
  return parley_value_text(&r);
}

/* The octets of a field; PARLEY_NONE if it is absent. */
static inline parley_view parley_get_bytes(parley_message message, uint16_t field) {
  parley_reader r = parley_find(message, field);
  return parley_value_bytes(&r);
}

/* The number of a field; otherwise, if it is absent. */
static inline uint64_t parley_get_uint(parley_message message, uint16_t field, uint64_t otherwise) {
  parley_reader r = parley_find(message, field);
  uint64_t value = parley_value_uint(&r);
  return r.malformed ? otherwise : value;
}

/* Whether there is a field. */
static inline bool parley_has(parley_message message, uint16_t field) { return !parley_find(message, field).malformed; }

/* The text that belongs to a name, among fields that are pairs; PARLEY_NONE if
 * there is none. */
PARLEY_FUNCTION parley_view parley_get_named(parley_message message, uint16_t field, parley_view name) {
  parley_view text = PARLEY_NONE;
  parley_reader r = parley_fields(message);
  while (parley_next(&r)) {
    if (r.field != field) continue;
    parley_pair pair = parley_value_pair(&r);
    if (parley_equal(pair.name, name)) text = pair.text;
  }
  return r.malformed ? PARLEY_NONE : text;
}

/* A parameter of the binding, by its name. Maps join names by a dot. A list
 * repeats the name: parley_next and parley_value_pair walk over all of it. */
static inline parley_view parley_param(parley_message request, parley_view name) {
  return parley_get_named(request, PARLEY_FIELD_PARAM, name);
}

/* An attribute of the session, by its name. */
static inline parley_view parley_attribute(parley_message request, parley_view name) {
  return parley_get_named(request, PARLEY_FIELD_ATTRIBUTE, name);
}

/* ---- Input ---- */

/* Copies a source to an empty buffer, whole. Returns its size; ETOOBIG: the buffer
 * is too small, and stays empty. */
PARLEY_FUNCTION int32_t parley_load(uint32_t source, parley_buffer *b) {
  parley_reset(b);
  int32_t size = parley_read(source, 0, b->data, b->capacity);
  if (size < 0) return size;
  if ((uint32_t)size > b->capacity) return PARLEY_ETOOBIG;
  b->size = (uint32_t)size;
  return size;
}

/* Reads the message of this call into b, and views it. A hook's parameter says
 * how large it is; PARLEY_MESSAGE octets are enough for any, unless the operator
 * allows more. Returns its size; ETOOBIG: b is too small, and the message empty. */
static inline int32_t parley_input(parley_buffer *b, parley_message *message) {
  int32_t size = parley_load(PARLEY_SOURCE_INPUT, b);
  *message = (parley_message){b->data, b->size};
  return size;
}

/* Reads the result of the last service into b, likewise. */
static inline int32_t parley_result(parley_buffer *b, parley_message *message) {
  int32_t size = parley_load(PARLEY_SOURCE_RESULT, b);
  *message = (parley_message){b->data, b->size};
  return size;
}

/* Reads the plugin's configuration into b, octet for octet, and views it. It can
 * be read in any call. Returns its size, which may be anything: on_load gets it
 * as its parameter. ETOOBIG: b is too small, and the text empty. */
static inline int32_t parley_config(parley_buffer *b, parley_view *text) {
  int32_t size = parley_load(PARLEY_SOURCE_CONFIG, b);
  *text = (parley_view){b->data, b->size};
  return size;
}

/* ---- Writing messages ---- */

/* Appends the header of a field whose value, of size octets, comes next. */
PARLEY_FUNCTION void parley_put_header(parley_buffer *b, uint16_t field, uint16_t type, uint32_t size) {
  char *p = parley_take(b, PARLEY_HEADER);
  if (p == NULL) return;
  parley_put_little(p, field, 2);
  parley_put_little(p + 2, type, 2);
  parley_put_little(p + 4, size, 4);
}

/* Appends a field of octets. */
PARLEY_FUNCTION void parley_put_bytes(parley_buffer *b, uint16_t field, parley_view octets) {
  parley_put_header(b, field, PARLEY_TYPE_BYTES, octets.size);
  parley_add(b, octets);
}

/* Appends a field of text, which must be UTF-8: the host checks it. */
PARLEY_FUNCTION void parley_put_text(parley_buffer *b, uint16_t field, parley_view text) {
  parley_put_header(b, field, PARLEY_TYPE_TEXT, text.size);
  parley_add(b, text);
}

/* Appends a field that is a number; a flag is 0 or 1. */
PARLEY_FUNCTION void parley_put_uint(parley_buffer *b, uint16_t field, uint64_t value) {
  parley_put_header(b, field, PARLEY_TYPE_UINT, 8);
  char *p = parley_take(b, 8);
  if (p != NULL) parley_put_little(p, value, 8);
}

/* Begins a field that is a message: the fields up to parley_end are in it. Returns
 * the mark that parley_end needs. */
static inline uint32_t parley_begin(parley_buffer *b, uint16_t field) {
  parley_put_header(b, field, PARLEY_TYPE_MESSAGE, 0);
  return b->size;
}

/* Ends the field whose parley_begin has returned mark. */
static inline void parley_end(parley_buffer *b, uint32_t mark) {
  if (!b->overflow) parley_put_little(b->data + mark - 4, b->size - mark, 4);
}

/* Appends a message of name and text: an attribute, a label, a header field. */
PARLEY_FUNCTION void parley_put_pair(parley_buffer *b, uint16_t field, parley_view name, parley_view text) {
  uint32_t mark = parley_begin(b, field);
  parley_put_text(b, PARLEY_FIELD_NAME, name);
  parley_put_text(b, PARLEY_FIELD_TEXT, text);
  parley_end(b, mark);
}

/* ---- Replies: hooks end with one of these ---- */

/* Writes the fields in b as the reply, then the rest of one that b has only the
 * header of. For those below. */
PARLEY_FUNCTION int32_t parley_send(const parley_buffer *b, parley_view rest) {
  if (b->overflow || !parley_is_whole(rest)) return PARLEY_ETOOBIG;
  int32_t size = parley_write(PARLEY_SINK_REPLY, b->data, b->size);
  return size < 0 || rest.size == 0 ? size : parley_write(PARLEY_SINK_REPLY, rest.data, rest.size);
}

/* Fails, for a reason that goes to the log. Returns error, or EIO if that is not
 * below zero. This instance lives on, and the binding's on_error applies. */
PARLEY_FUNCTION int32_t parley_fail(int32_t error, parley_view reason) {
  char header[PARLEY_HEADER];
  parley_buffer b = PARLEY_BUFFER(header);
  parley_put_header(&b, PARLEY_FIELD_REASON, PARLEY_TYPE_TEXT, reason.size);
  parley_send(&b, reason);
  return error < 0 ? error : PARLEY_EIO;
}

/* Replies with the fields in b and a verdict. If b has overflown, or the host does
 * not take so much, the call fails. */
static inline int32_t parley_reply(int32_t verdict, const parley_buffer *b) {
  int32_t size = parley_send(b, PARLEY_NONE);
  return size < 0 ? parley_fail(size, PARLEY_TEXT("the reply is too large")) : verdict;
}

/* Done, with one field of text: a password, an HA1, an interface. If text has not
 * fitted its buffer, or the host does not take so much, the call fails. */
PARLEY_FUNCTION int32_t parley_answer(uint16_t field, parley_view text) {
  char header[PARLEY_HEADER];
  parley_buffer b = PARLEY_BUFFER(header);
  parley_put_header(&b, field, PARLEY_TYPE_TEXT, text.size);
  int32_t size = parley_send(&b, text);
  return size < 0 ? size : PARLEY_DONE;
}

/* Denies, with a status (one of 400, 403, 404, 413, 415, 423, 481, 501 and 506; 0:
 * 403) and a reason: one line of up to 128 octets, or PARLEY_NONE. Fails as
 * parley_answer does. */
PARLEY_FUNCTION int32_t parley_deny(uint32_t status, parley_view reason) {
  char header[3 * PARLEY_HEADER];
  parley_buffer b = PARLEY_BUFFER(header);
  if (status > 0) parley_put_uint(&b, PARLEY_FIELD_STATUS, status);
  parley_put_header(&b, PARLEY_FIELD_REASON, PARLEY_TYPE_TEXT, reason.size);
  int32_t size = parley_send(&b, reason);
  return size < 0 ? size : PARLEY_DENY;
}

/* ---- Logging ---- */

/* Logs text as one line, cut at 4096 octets. Lines over the plugin's rate are
 * counted, not logged. Session URIs are secrets: do not log them. */
static inline void parley_log_text(uint32_t level, parley_view text) {
  if (!parley_is_whole(text)) text = PARLEY_TEXT("(a line that was larger than its buffer)");
  parley_log(level, text.data, text.size);
}
static inline void parley_log_error(parley_view text) { parley_log_text(PARLEY_LEVEL_ERROR, text); }
static inline void parley_log_warn(parley_view text) { parley_log_text(PARLEY_LEVEL_WARN, text); }
static inline void parley_log_info(parley_view text) { parley_log_text(PARLEY_LEVEL_INFO, text); }
static inline void parley_log_debug(parley_view text) { parley_log_text(PARLEY_LEVEL_DEBUG, text); }

/* ---- Services ----
 *
 * Those that take a parley_buffer *room make the request in it, and then read
 * the result into it: it must have room for either, and what they return points
 * into it until it is used again. What they are given must not be in it. Where
 * they fail, what they would have read is empty.
 *
 * Any of them returns EPERM if the operator has not granted it, EINVAL if the
 * request has a value that is not allowed, and ETOOBIG if room is too small or
 * the host allows less. Some services need a grant, which is named below. */

/* Asks a service with the fields in room. */
static inline int32_t parley_ask(uint32_t service, const parley_buffer *room) {
  return room->overflow ? PARLEY_ETOOBIG : parley_call(service, room->data, room->size);
}

/* The same, and reads the result into room. If that fails the result is empty. */
PARLEY_FUNCTION int32_t parley_ask_for(uint32_t service, parley_buffer *room, parley_message *result) {
  *result = (parley_message){NULL, 0};
  int32_t error = parley_ask(service, room);
  return error < 0 ? error : parley_result(room, result);
}

/* Reads one number of the last service's result, straight from the host, however
 * large the result. EIO: there is none. */
PARLEY_FUNCTION int32_t parley_result_uint(uint16_t field, uint64_t *value) {
  int32_t found = PARLEY_EIO;
  for (uint32_t offset = 0;;) {
    char head[PARLEY_HEADER];
    int32_t total = parley_read(PARLEY_SOURCE_RESULT, offset, head, sizeof head);
    if (total < 0) return total;
    if ((uint32_t)total < offset || (uint32_t)total - offset < PARLEY_HEADER) return found;
    uint32_t left = (uint32_t)total - offset - PARLEY_HEADER;
    uint32_t size = (uint32_t)parley_little(head + 4, 4);
    if (size > left) return PARLEY_EIO;
    offset += PARLEY_HEADER;
    if (parley_little(head, 2) == field && parley_little(head + 2, 2) == PARLEY_TYPE_UINT && size == 8) {
      parley_read(PARLEY_SOURCE_RESULT, offset, head, 8);
      *value = parley_little(head, 8);
      found = 0;
    }
    offset += size;
  }
}

/* Whether a service (PARLEY_SERVICE_…) is known to the host and granted: 1 or 0. */
PARLEY_FUNCTION int32_t parley_feature(uint64_t service) {
  char memory[2 * PARLEY_HEADER];
  parley_buffer b = PARLEY_BUFFER(memory);
  uint64_t granted = 0;
  parley_put_uint(&b, PARLEY_FIELD_OP, service);
  int32_t error = parley_ask(PARLEY_SERVICE_FEATURE, &b);
  if (error >= 0) error = parley_result_uint(PARLEY_FIELD_GRANTED, &granted);
  return error < 0 ? error : granted == 1;
}

/* The time, in nanoseconds since 1970-01-01 UTC. Grant: clock. */
static inline int32_t parley_time(uint64_t *nanoseconds) {
  int32_t error = parley_call(PARLEY_SERVICE_TIME, NULL, 0);
  return error < 0 ? error : parley_result_uint(PARLEY_FIELD_TIME_NS, nanoseconds);
}

/* count random octets, up to 4096, fit for keys. Grant: random. */
PARLEY_FUNCTION int32_t parley_random(parley_buffer *room, uint32_t count, parley_view *octets) {
  parley_message result;
  parley_reset(room);
  parley_put_uint(room, PARLEY_FIELD_COUNT, count);
  int32_t error = parley_ask_for(PARLEY_SERVICE_RANDOM, room, &result);
  *octets = parley_get_bytes(result, PARLEY_FIELD_DATA);
  if (error < 0) return error;
  return octets->size == count ? 0 : PARLEY_EIO;
}

/* The store: entries that all instances of the plugin share and that survive
 * reloads, up to 64 KiB each under keys up to 512 octets unless the operator says
 * otherwise. When it is full, the entries longest unused go. Grant: kv. */

/* Reads an entry. version may be NULL; it is for parley_kv_cas. ENOENT: there is
 * none, and its version is 0. */
PARLEY_FUNCTION int32_t parley_kv_get(parley_buffer *room, parley_view key, parley_view *value, uint64_t *version) {
  parley_message result;
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_KEY, key);
  int32_t error = parley_ask_for(PARLEY_SERVICE_KV_GET, room, &result);
  *value = parley_get_bytes(result, PARLEY_FIELD_VALUE);
  if (version != NULL) *version = parley_get_uint(result, PARLEY_FIELD_VERSION, 0);
  return error;
}

/* Writes an entry, which lives ttl_ms milliseconds; 0: until it is pushed out. */
PARLEY_FUNCTION int32_t parley_kv_set(parley_buffer *room, parley_view key, parley_view value, uint64_t ttl_ms) {
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_KEY, key);
  parley_put_bytes(room, PARLEY_FIELD_VALUE, value);
  if (ttl_ms > 0) parley_put_uint(room, PARLEY_FIELD_TTL_MS, ttl_ms);
  return parley_ask(PARLEY_SERVICE_KV_SET, room);
}

/* Writes an entry if it has this version: that which parley_kv_get has told, or 0
 * if there shall be none. ECONFLICT: it has another; somebody was faster. */
PARLEY_FUNCTION int32_t parley_kv_cas(parley_buffer *room, parley_view key, parley_view value, uint64_t version,
                                      uint64_t ttl_ms) {
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_KEY, key);
  parley_put_bytes(room, PARLEY_FIELD_VALUE, value);
  parley_put_uint(room, PARLEY_FIELD_VERSION, version);
  if (ttl_ms > 0) parley_put_uint(room, PARLEY_FIELD_TTL_MS, ttl_ms);
  return parley_ask(PARLEY_SERVICE_KV_CAS, room);
}

/* Removes an entry. ENOENT: there was none. */
PARLEY_FUNCTION int32_t parley_kv_del(parley_buffer *room, parley_view key) {
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_KEY, key);
  return parley_ask(PARLEY_SERVICE_KV_DEL, room);
}

/* Adds count, which may be below zero, to the number in an entry, which begins as
 * 0; *sum is what it is now. ttl_ms counts for an entry that is made now; one that
 * is there keeps its end. EINVAL: the entry is not 8 octets. */
PARLEY_FUNCTION int32_t parley_kv_incr(parley_buffer *room, parley_view key, int64_t count, uint64_t ttl_ms, int64_t *sum) {
  uint64_t now = 0;
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_KEY, key);
  parley_put_uint(room, PARLEY_FIELD_COUNT, (uint64_t)count);
  if (ttl_ms > 0) parley_put_uint(room, PARLEY_FIELD_TTL_MS, ttl_ms);
  int32_t error = parley_ask(PARLEY_SERVICE_KV_INCR, room);
  if (error >= 0) error = parley_result_uint(PARLEY_FIELD_COUNT, &now);
  if (error < 0) return error;
  *sum = now <= INT64_MAX ? (int64_t)now : -1 - (int64_t)(UINT64_MAX - now);
  return 0;
}

/* Counts. kind is "counter" (count is added), "gauge" (it becomes count) or
 * "histogram" (count is one observation). name and those of labels are letters,
 * digits and underscores, up to 64 octets. Up to 4 labels; labels may be NULL if
 * there are none. EAGAIN: the plugin has 100 series already. */
PARLEY_FUNCTION int32_t parley_metric(parley_buffer *room, parley_view name, parley_view kind, uint64_t count,
                                      const parley_pair *labels, uint32_t label_count) {
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_NAME, name);
  parley_put_text(room, PARLEY_FIELD_KIND, kind);
  parley_put_uint(room, PARLEY_FIELD_COUNT, count);
  for (uint32_t i = 0; i < label_count; i++) parley_put_pair(room, PARLEY_FIELD_LABEL, labels[i].name, labels[i].text);
  return parley_ask(PARLEY_SERVICE_METRIC, room);
}

/* Asks a web service and waits for the answer, at most until the call's deadline
 * (ETIMEDOUT). headers may be NULL if there are none; body may be PARLEY_NONE.
 * *response has status (uint), header (pairs) and body (bytes). EPERM: the
 * operator has granted no URL that this one begins with. EIO: no answer.
 * Redirects are not followed. Grant: http. */
PARLEY_FUNCTION int32_t parley_http(parley_buffer *room, parley_view method, parley_view uri, const parley_pair *headers,
                                    uint32_t header_count, parley_view body, parley_message *response) {
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_METHOD, method);
  parley_put_text(room, PARLEY_FIELD_URI, uri);
  for (uint32_t i = 0; i < header_count; i++) parley_put_pair(room, PARLEY_FIELD_HEADER, headers[i].name, headers[i].text);
  if (body.size > 0) parley_put_bytes(room, PARLEY_FIELD_BODY, body);
  return parley_ask_for(PARLEY_SERVICE_HTTP, room, response);
}

/* Reads an attribute of the session that this call is about, with what this call
 * has set. ENOENT: there is none. */
PARLEY_FUNCTION int32_t parley_session_get(parley_buffer *room, parley_view name, parley_view *text) {
  parley_message result;
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_NAME, name);
  int32_t error = parley_ask_for(PARLEY_SERVICE_SESSION_GET, room, &result);
  *text = parley_get_text(result, PARLEY_FIELD_TEXT);
  return error;
}

/* Sets an attribute of the session, if this call's verdict is done. */
PARLEY_FUNCTION int32_t parley_session_set(parley_buffer *room, parley_view name, parley_view text) {
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_NAME, name);
  parley_put_text(room, PARLEY_FIELD_TEXT, text);
  return parley_ask(PARLEY_SERVICE_SESSION_SET, room);
}

/* Hashes data by algorithm "md5", "sha-1" or "sha-256"; *digest is 16, 20 or 32
 * octets. With a secret it is an HMAC; without one, secret is PARLEY_NONE. */
PARLEY_FUNCTION int32_t parley_hash(parley_buffer *room, parley_view algorithm, parley_view data, parley_view secret,
                                    parley_view *digest) {
  parley_message result;
  parley_reset(room);
  parley_put_text(room, PARLEY_FIELD_ALGORITHM, algorithm);
  parley_put_bytes(room, PARLEY_FIELD_DATA, data);
  if (secret.data != NULL || secret.size > 0) parley_put_bytes(room, PARLEY_FIELD_SECRET, secret);
  int32_t error = parley_ask_for(PARLEY_SERVICE_HASH, room, &result);
  *digest = parley_get_bytes(result, PARLEY_FIELD_DIGEST);
  if (error < 0) return error;
  return digest->size > 0 ? 0 : PARLEY_EIO;
}

#endif
