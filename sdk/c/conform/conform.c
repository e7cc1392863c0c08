/* The conformance guest in C: what testdata/abi/conformance.json says of each
 * user name. */
#include "parley.h"

static char in_memory[PARLEY_MESSAGE], text_memory[PARLEY_MESSAGE], room_memory[PARLEY_MESSAGE];
static parley_buffer text; /* emptied before each call */
static parley_buffer room;

static uint32_t loaded; /* octets of the configuration that on_load was given */
static uint64_t count;

static int32_t say(parley_view reason) { return parley_deny(0, reason); }

static int32_t say_uint(uint64_t value) {
  parley_add_uint(&text, value);
  return say(parley_content(&text));
}

static int32_t say_error(int32_t error) {
  parley_reset(&text);
  parley_add_int(&text, error);
  return say(parley_content(&text));
}

static int32_t say_if(bool good) { return say(good ? PARLEY_TEXT("ok") : PARLEY_TEXT("bad")); }

static int32_t ok_or(int32_t error) { return error < 0 ? say_error(error) : say_if(true); }

#define PARAM(name) parley_param(request, PARLEY_TEXT(name))

static int32_t next(parley_message request) {
  (void)request;
  return PARLEY_NEXT;
}

static int32_t ha1(parley_message request) { return parley_answer(PARLEY_FIELD_HA1, PARAM("ha1")); }

static int32_t password(parley_message request) {
  parley_add(&text, parley_get_text(request, PARLEY_FIELD_REALM));
  parley_add(&text, PARLEY_TEXT(":"));
  parley_add(&text, PARAM("suffix"));
  return parley_answer(PARLEY_FIELD_PASSWORD, parley_content(&text));
}

static int32_t authenticated(parley_message request) {
  (void)request;
  parley_put_uint(&text, PARLEY_FIELD_AUTHENTICATED, 1);
  parley_put_uint(&text, PARLEY_FIELD_MAX_EXPIRES_MS, 60000);
  parley_put_pair(&text, PARLEY_FIELD_ATTRIBUTE, PARLEY_TEXT("group"), PARLEY_TEXT("staff"));
  parley_put_pair(&text, PARLEY_FIELD_ATTRIBUTE, PARLEY_TEXT("color"), PARLEY_TEXT("blue"));
  return parley_reply(PARLEY_DONE, &text);
}

static int32_t limits(parley_message request) {
  parley_put_uint(&text, PARLEY_FIELD_AUTHENTICATED, 1);
  parley_put_text(&text, PARLEY_FIELD_USERNAME, PARAM("username"));
  parley_put_uint(&text, PARLEY_FIELD_MAX_SESSIONS, 1);
  parley_put_uint(&text, PARLEY_FIELD_MESSAGES_PER_MINUTE, 2);
  parley_put_uint(&text, PARLEY_FIELD_BYTES_PER_SECOND, 3);
  parley_put_uint(&text, PARLEY_FIELD_USER_MESSAGES_PER_MINUTE, 4);
  parley_put_uint(&text, PARLEY_FIELD_USER_BYTES_PER_SECOND, 5);
  parley_put_uint(&text, PARLEY_FIELD_MAX_MESSAGE, 6);
  return parley_reply(PARLEY_DONE, &text);
}

static int32_t deny(parley_message request) {
  (void)request;
  return parley_deny(404, PARLEY_TEXT("no such user"));
}

static int32_t deny_plain(parley_message request) {
  (void)request;
  return PARLEY_DENY;
}

static int32_t fail(parley_message request) {
  (void)request;
  return parley_fail(-5, PARLEY_TEXT("database is down"));
}

static int32_t strange(parley_message request) {
  (void)request;
  return 77;
}

static int32_t field(parley_message request) {
  static const struct {
    parley_view name;
    uint16_t field;
  } fields[] = {
      {{"listener", 8}, PARLEY_FIELD_LISTENER},       {{"transport", 9}, PARLEY_FIELD_TRANSPORT},
      {{"local_addr", 10}, PARLEY_FIELD_LOCAL_ADDR},  {{"remote_addr", 11}, PARLEY_FIELD_REMOTE_ADDR},
      {{"tls_sni", 7}, PARLEY_FIELD_TLS_SNI},         {{"tls_client_cn", 13}, PARLEY_FIELD_TLS_CLIENT_CN},
      {{"realm", 5}, PARLEY_FIELD_REALM},             {{"username", 8}, PARLEY_FIELD_USERNAME},
      {{"uri", 3}, PARLEY_FIELD_URI},                 {{"method", 6}, PARLEY_FIELD_METHOD},
      {{"algorithm", 9}, PARLEY_FIELD_ALGORITHM},     {{"nonce", 5}, PARLEY_FIELD_NONCE},
      {{"response", 8}, PARLEY_FIELD_RESPONSE},       {{"cnonce", 6}, PARLEY_FIELD_CNONCE},
      {{"nc", 2}, PARLEY_FIELD_NC},                   {{"qop", 3}, PARLEY_FIELD_QOP},
      {{"from_path", 9}, PARLEY_FIELD_FROM_PATH},     {{"to_path", 7}, PARLEY_FIELD_TO_PATH},
      {{"hook", 4}, PARLEY_FIELD_HOOK},               {{"binding", 7}, PARLEY_FIELD_BINDING},
      {{"cookie", 6}, PARLEY_FIELD_COOKIE},           {{"bearer", 6}, PARLEY_FIELD_BEARER},
      {{"origin", 6}, PARLEY_FIELD_ORIGIN},           {{"relay", 5}, PARLEY_FIELD_RELAY},
  };
  for (uint32_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    if (parley_equal(fields[i].name, PARAM("field"))) return say(parley_get_text(request, fields[i].field));
  }
  return parley_fail(PARLEY_EINVAL, PARLEY_TEXT("no such field"));
}

static int32_t deadline(parley_message request) {
  uint64_t us = parley_get_uint(request, PARLEY_FIELD_DEADLINE_US, 0);
  return say_if(us >= 1 && us <= 60000000);
}

static int32_t list(parley_message request) {
  parley_reader r = parley_fields(request);
  while (parley_next(&r)) {
    if (r.field != PARLEY_FIELD_PARAM) continue;
    parley_pair param = parley_value_pair(&r);
    if (!PARLEY_IS(param.name, "item")) continue;
    parley_add(&text, param.text);
    parley_add(&text, PARLEY_TEXT(";"));
  }
  return say(parley_content(&text));
}

static int32_t config(parley_message request) {
  (void)request;
  parley_view all;
  int32_t error = parley_config(&room, &all);
  return error < 0 ? say_error(error) : say(all);
}

static int32_t config_size(parley_message request) {
  (void)request;
  return say_uint(loaded);
}

static int32_t log_lines(parley_message request) {
  (void)request;
  parley_log_error(PARLEY_TEXT("hello 1"));
  parley_log_warn(PARLEY_TEXT("hello 2"));
  parley_log_info(PARLEY_TEXT("hello 3"));
  parley_log_debug(PARLEY_TEXT("hello 4"));
  return PARLEY_NEXT;
}

static int32_t counted(parley_message request) {
  (void)request;
  return say_uint(++count);
}

static int32_t time(parley_message request) {
  (void)request;
  uint64_t ns = 0;
  int32_t error = parley_time(&ns);
  return error < 0 ? say_error(error) : say_if(ns > 1600000000000000000);
}

static int32_t random(parley_message request) {
  (void)request;
  parley_view octets;
  int32_t error = parley_random(&room, 16, &octets);
  return error < 0 ? say_error(error) : say_uint(octets.size);
}

static int32_t kv_set(parley_message request) {
  uint64_t ttl = 0;
  parley_parse_uint(PARAM("ttl"), &ttl);
  return ok_or(parley_kv_set(&room, PARAM("key"), PARAM("value"), ttl));
}

static int32_t kv_get(parley_message request) {
  parley_view value;
  int32_t error = parley_kv_get(&room, PARAM("key"), &value, NULL);
  return error < 0 ? say_error(error) : say(value);
}

static int32_t kv_del(parley_message request) { return ok_or(parley_kv_del(&room, PARAM("key"))); }

static int32_t kv_incr(parley_message request) {
  int64_t sum = 0;
  int32_t error = parley_kv_incr(&room, PARAM("key"), 5, 0, &sum);
  if (error < 0) return say_error(error);
  parley_add_int(&text, sum);
  return say(parley_content(&text));
}

static int32_t kv_cas(parley_message request) {
  parley_view value;
  uint64_t version = 0;
  int32_t error = parley_kv_get(&room, PARAM("key"), &value, &version);
  if (error < 0 && error != PARLEY_ENOENT) return say_error(error);
  error = parley_kv_cas(&room, PARAM("key"), PARAM("value"), version, 0);
  if (error < 0) return say_error(error);
  return say_if(parley_kv_cas(&room, PARAM("key"), PARAM("value"), version, 0) == PARLEY_ECONFLICT);
}

static int32_t metric(parley_message request) {
  (void)request;
  parley_pair label = {PARLEY_TEXT("color"), PARLEY_TEXT("blue")};
  int32_t error = parley_metric(&room, PARLEY_TEXT("conform_total"), PARLEY_TEXT("counter"), 2, &label, 1);
  return error < 0 ? say_error(error) : PARLEY_NEXT;
}

static int32_t http(parley_message request) {
  parley_pair header = {PARLEY_TEXT("X-Conform"), PARLEY_TEXT("yes")};
  parley_message response;
  int32_t error = parley_http(&room, PARLEY_TEXT("GET"), PARAM("url"), &header, 1, PARLEY_NONE, &response);
  if (error < 0) return say_error(error);
  parley_add_uint(&text, parley_get_uint(response, PARLEY_FIELD_STATUS, 0));
  parley_add(&text, PARLEY_TEXT(" "));
  parley_add(&text, parley_get_bytes(response, PARLEY_FIELD_BODY));
  return say(parley_content(&text));
}

static int32_t session(parley_message request) {
  parley_view realm = parley_get_text(request, PARLEY_FIELD_REALM), seen = PARLEY_NONE;
  int32_t error = parley_session_set(&room, PARLEY_TEXT("seen"), realm);
  if (error >= 0) error = parley_session_get(&room, PARLEY_TEXT("seen"), &seen);
  if (error < 0) return say_error(error);
  if (!parley_equal(seen, realm)) return say_if(false);
  parley_put_uint(&text, PARLEY_FIELD_AUTHENTICATED, 1);
  return parley_reply(PARLEY_DONE, &text);
}

static int32_t session_none(parley_message request) {
  (void)request;
  parley_view nothing;
  return ok_or(parley_session_get(&room, PARLEY_TEXT("nothing"), &nothing));
}

static int32_t feature(parley_message request) {
  uint64_t service = 0;
  parley_parse_uint(PARAM("op"), &service);
  return say_error(parley_feature(service)); /* 0 and 1 as well */
}

static int32_t nosys(parley_message request) {
  (void)request;
  return ok_or(parley_call(9999, NULL, 0));
}

static int32_t hash(parley_message request) {
  parley_view digest;
  parley_add(&text, parley_get_text(request, PARLEY_FIELD_USERNAME));
  parley_add(&text, PARLEY_TEXT(":"));
  parley_add(&text, parley_get_text(request, PARLEY_FIELD_REALM));
  parley_add(&text, PARLEY_TEXT(":secret"));
  int32_t error = parley_hash(&room, PARLEY_TEXT("md5"), parley_content(&text), PARLEY_NONE, &digest);
  if (error < 0) return say_error(error);
  parley_reset(&text);
  parley_add_hex(&text, digest);
  return parley_answer(PARLEY_FIELD_HA1, parley_content(&text));
}

static int32_t hmac(parley_message request) {
  (void)request;
  parley_view digest;
  int32_t error = parley_hash(&room, PARLEY_TEXT("sha-256"), PARLEY_TEXT("what do ya want for nothing?"), PARLEY_TEXT("Jefe"), &digest);
  if (error < 0) return say_error(error);
  digest.size = 8;
  parley_add_hex(&text, digest);
  return say(parley_content(&text));
}

static int32_t big(parley_message request) {
  (void)request;
  static const char zeros[1024];
  parley_put_bytes(&text, 0x8001, (parley_view){zeros, sizeof zeros});
  int32_t size = 0;
  for (uint32_t i = 0; i < 1000 && size >= 0; i++) size = parley_write(PARLEY_SINK_REPLY, text.data, text.size);
  return size == PARLEY_ETOOBIG ? -6 : PARLEY_NEXT;
}

static int32_t body(parley_message request) {
  (void)request;
  return say_error(parley_read(PARLEY_SOURCE_BODY, 0, NULL, 0)); /* a size as well */
}

static int32_t trap(parley_message request) {
  (void)request;
  __builtin_trap();
}

static const struct {
  parley_view name;
  int32_t (*answer)(parley_message request);
} users[] = {
    {{"next", 4}, next},
    {{"ha1", 3}, ha1},
    {{"password", 8}, password},
    {{"authenticated", 13}, authenticated},
    {{"limits", 6}, limits},
    {{"deny", 4}, deny},
    {{"deny-plain", 10}, deny_plain},
    {{"fail", 4}, fail},
    {{"strange", 7}, strange},
    {{"field", 5}, field},
    {{"deadline", 8}, deadline},
    {{"list", 4}, list},
    {{"config", 6}, config},
    {{"loaded", 6}, config_size},
    {{"log", 3}, log_lines},
    {{"count", 5}, counted},
    {{"time", 4}, time},
    {{"random", 6}, random},
    {{"kv-set", 6}, kv_set},
    {{"kv-get", 6}, kv_get},
    {{"kv-del", 6}, kv_del},
    {{"kv-incr", 7}, kv_incr},
    {{"kv-cas", 6}, kv_cas},
    {{"metric", 6}, metric},
    {{"http", 4}, http},
    {{"session", 7}, session},
    {{"session-none", 12}, session_none},
    {{"feature", 7}, feature},
    {{"nosys", 5}, nosys},
    {{"hash", 4}, hash},
    {{"hmac", 4}, hmac},
    {{"big", 3}, big},
    {{"body", 4}, body},
    {{"trap", 4}, trap},
};

/* Empties the buffers and reads the request. */
static int32_t begin(parley_buffer *in, parley_message *request) {
  text = PARLEY_BUFFER(text_memory);
  room = PARLEY_BUFFER(room_memory);
  *in = PARLEY_BUFFER(in_memory);
  return parley_input(in, request);
}

PARLEY_HOOK(on_load) {
  loaded = size;
  parley_buffer in = PARLEY_BUFFER(in_memory);
  parley_view all;
  int32_t error = parley_config(&in, &all);
  if (error < 0) return parley_fail(error, PARLEY_TEXT("the configuration is too large"));
  parley_view head, tail;
  if (parley_cut(all, ':', &head, &tail) && PARLEY_IS(head, "refuse")) return parley_fail(-1, tail);
  return 0;
}

PARLEY_HOOK(on_authenticate) {
  parley_buffer in;
  parley_message request;
  int32_t error = begin(&in, &request);
  if (error < 0) return parley_fail(error, PARLEY_TEXT("the request is too large"));
  parley_view user = parley_get_text(request, PARLEY_FIELD_USERNAME);
  for (uint32_t i = 0; i < sizeof users / sizeof *users; i++) {
    if (parley_equal(users[i].name, user)) return users[i].answer(request);
  }
  return PARLEY_NEXT;
}

PARLEY_HOOK(on_select_interface) {
  parley_buffer in;
  parley_message request;
  int32_t error = begin(&in, &request);
  if (error < 0) return parley_fail(error, PARLEY_TEXT("the request is too large"));
  parley_message first = {NULL, 0}, last = {NULL, 0};
  parley_reader r = parley_fields(request);
  while (parley_next(&r)) {
    if (r.field != PARLEY_FIELD_OFFER) continue;
    last = parley_value_message(&r);
    if (first.data == NULL) first = last;
  }
  parley_view user = parley_get_text(request, PARLEY_FIELD_USERNAME);
  if (PARLEY_IS(user, "last")) {
    parley_put_text(&room, PARLEY_FIELD_INTERFACE, parley_get_text(last, PARLEY_FIELD_NAME));
    parley_put_text(&room, PARLEY_FIELD_ADDRESS, parley_get_text(last, PARLEY_FIELD_ADDRESS));
    return parley_reply(PARLEY_DONE, &room);
  }
  if (PARLEY_IS(user, "mark")) {
    parley_add(&text, parley_get_text(request, PARLEY_FIELD_HOST));
    parley_add(&text, PARLEY_TEXT(":"));
    parley_add_uint(&text, parley_get_uint(request, PARLEY_FIELD_PORT, 0));
    parley_add(&text, PARLEY_TEXT(":"));
    parley_add_uint(&text, parley_get_uint(request, PARLEY_FIELD_SECURE, 0));
    parley_put_text(&room, PARLEY_FIELD_INTERFACE, parley_get_text(first, PARLEY_FIELD_NAME));
    parley_put_pair(&room, PARLEY_FIELD_ATTRIBUTE, PARLEY_TEXT("seen"), parley_content(&text));
    return parley_reply(PARLEY_DONE, &room);
  }
  if (PARLEY_IS(user, "group")) return parley_answer(PARLEY_FIELD_INTERFACE, parley_attribute(request, PARLEY_TEXT("group")));
  if (PARLEY_IS(user, "refuse")) {
    parley_add(&text, PARLEY_TEXT("not from "));
    parley_add(&text, parley_get_text(request, PARLEY_FIELD_REMOTE_ADDR));
    return parley_deny(403, parley_content(&text));
  }
  return PARLEY_NEXT;
}
