/* Users from a text: the configuration has one user:password per line. */
#include "parley.h"

/* The lines stay here from on_load on; a reload makes a new instance. */
static char users_memory[256 * 1024];
static parley_view users;

static char memory[PARLEY_MESSAGE];

/* Takes the next line off *rest. Returns false at the end. */
static bool next_line(parley_view *rest, parley_view *line) {
  if (rest->size == 0) return false;
  parley_cut(*rest, '\n', line, rest);
  if (line->size > 0 && line->data[line->size - 1] == '\r') line->size--;
  return true;
}

static bool is_comment(parley_view line) { return line.size == 0 || line.data[0] == '#'; }

PARLEY_HOOK(on_load) {
  parley_buffer b = PARLEY_BUFFER(users_memory);
  int32_t error = parley_config(&b, &users);
  if (error < 0) return parley_fail(error, PARLEY_TEXT("the configuration is larger than 256 KiB"));
  parley_view rest = users, line, user, password;
  for (uint32_t number = 1; next_line(&rest, &line); number++) {
    if (is_comment(line)) continue;
    if (parley_cut(line, ':', &user, &password) && user.size > 0) continue;
    /* The line itself may be a password: it must not get into a log. */
    char text[64];
    parley_buffer reason = PARLEY_BUFFER(text);
    parley_add(&reason, PARLEY_TEXT("line "));
    parley_add_uint(&reason, number);
    parley_add(&reason, PARLEY_TEXT(" is not user:password"));
    return parley_fail(PARLEY_EINVAL, parley_content(&reason));
  }
  return 0;
}

PARLEY_HOOK(on_authenticate) {
  parley_buffer in = PARLEY_BUFFER(memory);
  parley_message request;
  int32_t error = parley_input(&in, &request);
  if (error < 0) return parley_fail(error, PARLEY_TEXT("the request is larger than 64 KiB"));
  parley_view asked = parley_get_text(request, PARLEY_FIELD_USERNAME);
  parley_view rest = users, line, user, password;
  while (next_line(&rest, &line)) {
    if (is_comment(line) || !parley_cut(line, ':', &user, &password)) continue;
    if (parley_equal(user, asked)) return parley_answer(PARLEY_FIELD_PASSWORD, password);
  }
  return PARLEY_NEXT; /* another provider may know */
}
