// blocked: refuses the users of a list, which is a parameter of the binding, and
// leaves the others to the next provider.

import { AuthenticateRequest, deny, next } from "../../sdk/assemblyscript/parley";
export { parley_abi } from "../../sdk/assemblyscript/parley";

export function on_authenticate(size: i32): i32 {
  const request = new AuthenticateRequest(size);
  return request.paramList("blocked").includes(request.username) ? deny(403, "blocked") : next();
}
