// hello: a plugin for Parley that knows one user. The configuration is that
// user's password; a binding's parameter "user" is the name, if not alice.

import { AuthenticateReply, AuthenticateRequest, config, log, next } from "./sdk/parley";
export { parley_abi } from "./sdk/parley";

let password = ""; // lives from call to call, in this instance

/** Runs once in each new instance. */
export function on_load(size: i32): i32 {
  password = config();
  if (password == "") {
    password = "wonderland";
    log.warn("no configuration: the password is wonderland");
  }
  return 0;
}

/** Somebody says who they are: what is their password? */
export function on_authenticate(size: i32): i32 {
  const request = new AuthenticateRequest(size);
  let user = request.param("user");
  if (user == "") user = "alice";
  if (request.username != user) return next(); // somebody else may know
  return new AuthenticateReply().password(password).done();
}
