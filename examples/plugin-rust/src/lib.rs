//! inside: sessions of clients whose address begins with a prefix leave by an
//! interface of their own. Both are parameters of the binding.

use parley::select_interface::{Reply, Request};

parley::plugin! { on_select_interface => select }

fn select(request: Request) -> Result<Reply, String> {
    let prefix = request.param("prefix").ok_or("no parameter prefix")?;
    let interface = request.param("interface").ok_or("no parameter interface")?;
    if !request.remote_addr().starts_with(prefix) {
        return Ok(Reply::next());
    }
    if !request.offers().any(|offer| offer.name() == interface) {
        return Err(format!("there is no interface {} to leave by", interface));
    }
    Ok(Reply::done().interface(interface))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parley::{field, Message, Writer};

    fn interface(remote: &str) -> Result<Option<String>, String> {
        let request = Writer::new()
            .text(field::REMOTE_ADDR, remote)
            .message(field::OFFER, &Writer::new().text(field::NAME, "core"))
            .pair(field::PARAM, "prefix", "10.")
            .pair(field::PARAM, "interface", "core");
        let reply = select(Request::new(Message::new(request.octets())))?;
        Ok(reply.message().text(field::INTERFACE).map(str::to_string))
    }

    #[test]
    fn by_prefix() {
        assert_eq!(interface("10.0.0.1:5000"), Ok(Some("core".to_string())));
        assert_eq!(interface("192.0.2.1:5000"), Ok(None));
    }
}
