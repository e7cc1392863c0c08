//! hello: a plugin for Parley that knows one user. The configuration is that
//! user's password; a binding's parameter "user" is the name, if not alice.

use std::cell::RefCell;

use parley::authenticate::{Reply, Request};

parley::plugin! {
    on_load => load,
    on_authenticate => answer,
}

thread_local! {
    // Lives from call to call, in this instance.
    static PASSWORD: RefCell<String> = RefCell::new(String::new());
}

/// Runs once in each new instance. An error refuses the load.
fn load(config: &[u8]) -> Result<(), &'static str> {
    let mut password = std::str::from_utf8(config).map_err(|_| "the configuration is not UTF-8")?;
    if password.is_empty() {
        password = "wonderland";
        parley::warn!("no configuration: the password is wonderland");
    }
    PASSWORD.with(|p| *p.borrow_mut() = password.to_string());
    Ok(())
}

/// Somebody says who they are: what is their password?
fn answer(request: Request) -> Reply {
    if request.username() != request.param("user").unwrap_or("alice") {
        return Reply::next(); // somebody else may know
    }
    PASSWORD.with(|p| Reply::done().password(&p.borrow()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parley::{field, verdict, Message, Writer};

    fn ask(request: &Writer) -> Reply {
        answer(Request::new(Message::new(request.octets())))
    }

    #[test]
    fn knows_one_user() {
        load(b"secret").unwrap();
        let reply = ask(&Writer::new().text(field::USERNAME, "alice"));
        assert_eq!(reply.verdict(), verdict::DONE);
        assert_eq!(reply.message().text(field::PASSWORD), Some("secret"));
        assert_eq!(ask(&Writer::new().text(field::USERNAME, "bob")).verdict(), verdict::NEXT);
    }

    #[test]
    fn the_binding_says_who() {
        load(b"").unwrap();
        let request = Writer::new().text(field::USERNAME, "bob").pair(field::PARAM, "user", "bob");
        assert_eq!(ask(&request).message().text(field::PASSWORD), Some("wonderland"));
    }
}
