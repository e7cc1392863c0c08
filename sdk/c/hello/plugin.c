/* hello: a plugin for Parley that knows one user. The configuration is that
 * user's password; a binding's parameter "user" is the name, if not alice. */
#include "parley.h"

static char password_memory[256]; /* globals live from call to call */
static parley_view password;

static char memory[PARLEY_MESSAGE];

/* Runs once in each new instance. */
PARLEY_HOOK(on_load) {
  parley_buffer b = PARLEY_BUFFER(password_memory);
  int32_t error = parley_config(&b, &password);
  if (error == PARLEY_ETOOBIG) return parley_fail(error, PARLEY_TEXT("the configuration is longer than a password"));
  if (error < 0) return parley_fail(error, PARLEY_TEXT("cannot read the configuration"));
  if (password.size == 0) {
    password = PARLEY_TEXT("wonderland");
    parley_log_warn(PARLEY_TEXT("no configuration: the password is wonderland"));
  }
  return 0;
}

/* Somebody says who they are: what is their password? */
PARLEY_HOOK(on_authenticate) {
  parley_buffer in = PARLEY_BUFFER(memory);
  parley_message request;
  int32_t error = parley_input(&in, &request);
  if (error < 0) return parley_fail(error, PARLEY_TEXT("cannot read the request"));
  parley_view user = parley_param(request, PARLEY_TEXT("user"));
  if (user.size == 0) user = PARLEY_TEXT("alice");
  if (!parley_equal(parley_get_text(request, PARLEY_FIELD_USERNAME), user)) return PARLEY_NEXT; /* somebody else may know */
  return parley_answer(PARLEY_FIELD_PASSWORD, password);
}
