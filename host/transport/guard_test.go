package transport

import (
	"net/netip"
	"testing"
)

func TestGuardDefault(t *testing.T) {
	var g Guard
	for addr, want := range map[string]bool{
		// Routable.
		"1.1.1.1": true, "8.8.8.8": true, "9.255.255.255": true, "11.0.0.0": true,
		"100.63.255.255": true, "100.128.0.0": true, "126.255.255.255": true, "128.0.0.1": true,
		"169.253.255.255": true, "169.255.0.0": true, "172.15.255.255": true, "172.32.0.0": true,
		"192.0.1.0": true, "192.167.255.255": true, "192.169.0.0": true, "198.17.255.255": true,
		"198.20.0.0": true, "223.255.255.255": true,
		"2606:4700:4700::1111": true, "2a00::1": true, "2001:4860:4860::8888": true, "2001:200::1": true,

		// Unspecified, loopback.
		"0.0.0.0": false, "0.1.2.3": false, "::": false,
		"127.0.0.1": false, "127.255.255.254": false, "::1": false, "::1%lo": false,
		// Private, shared, link-local.
		"10.0.0.1": false, "10.255.255.255": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.0.1": false, "100.64.0.1": false, "100.127.255.255": false,
		"169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false,
		"fc00::1": false, "fd00:ec2::254": false,
		// Multicast, broadcast, reserved.
		"224.0.0.1": false, "239.255.255.255": false, "ff02::1": false,
		"255.255.255.255": false, "240.0.0.1": false,
		// Documentation, benchmarking, assignments.
		"192.0.0.1": false, "192.0.0.192": false, "192.0.2.1": false, "198.51.100.1": false,
		"203.0.113.1": false, "198.18.0.1": false, "198.19.255.255": false, "192.88.99.1": false,
		"2001:db8::1": false, "3fff::1": false, "2001:2::1": false, "2001::1": false, "100::1": false,
		"5f00::1": false, "4000::1": false,

		// IPv4-mapped, and forms like it.
		"::ffff:8.8.8.8": true, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false,
		"::ffff:0.0.0.0": false, "::ffff:169.254.169.254": false,
		"::127.0.0.1": false, "::8.8.8.8": false, "::ffff:0:127.0.0.1": false,
		// NAT64.
		"64:ff9b::8.8.8.8": true, "64:ff9b::127.0.0.1": false, "64:ff9b::10.0.0.1": false,
		"64:ff9b::169.254.169.254": false, "64:ff9b::100.64.0.1": false, "64:ff9b::0.0.0.0": false,
		"64:ff9b:1::8.8.8.8": false, "64:ff9b:0:1::8.8.8.8": false,
		// 6to4.
		"2002:808:808::1": true, "2002:7f00:1::1": false, "2002:a00:1::1": false,
		"2002:c0a8:1::1": false, "2002:a9fe:a9fe::": false, "2002::": false,
	} {
		if got := g.Permits(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Permits(%s) = %v", addr, got)
		}
	}
	if g.Permits(netip.Addr{}) {
		t.Error("Permits(no address) = true")
	}
}

func TestGuardPrecedence(t *testing.T) {
	type ps = []string
	tests := []struct {
		name                string
		allow, deny, target ps
		permitted, refused  ps
	}{
		{
			name: "allow opens", allow: ps{"10.0.0.0/8", "fd00::/8"},
			permitted: ps{"10.0.0.1", "::ffff:10.0.0.1", "fd00::1", "64:ff9b::10.0.0.1", "8.8.8.8"},
			refused:   ps{"127.0.0.1", "fc00::1"},
		},
		{
			name: "deny closes", deny: ps{"8.8.8.0/24", "2600::/12"},
			permitted: ps{"8.8.4.4"},
			refused:   ps{"8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2606::1"},
		},
		{
			name: "longer deny wins", allow: ps{"10.0.0.0/8"}, deny: ps{"10.0.0.1/32"},
			permitted: ps{"10.0.0.2"}, refused: ps{"10.0.0.1"},
		},
		{
			name: "longer allow wins", allow: ps{"10.0.0.1/32"}, deny: ps{"10.0.0.0/8"},
			permitted: ps{"10.0.0.1"}, refused: ps{"10.0.0.2"},
		},
		{name: "deny wins a tie", allow: ps{"10.0.0.0/8"}, deny: ps{"10.0.0.0/8"}, refused: ps{"10.0.0.1"}},
		{
			name: "target adds", target: ps{"10.1.0.0/16"}, deny: ps{"10.0.0.0/8", "10.1.1.1/32"},
			permitted: ps{"10.1.0.1"}, refused: ps{"10.0.0.1", "10.1.1.1"},
		},
		{
			name: "only what is named", allow: ps{"9.9.9.9/32"}, deny: ps{"0.0.0.0/0", "::/0"},
			permitted: ps{"9.9.9.9"}, refused: ps{"8.8.8.8", "2a00::1", "127.0.0.1"},
		},
		{
			name: "off", allow: ps{"0.0.0.0/0", "::/0"},
			permitted: ps{"127.0.0.1", "::1", "fe80::1%eth0", "10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1"},
		},
		{
			name: "mapped prefix", allow: ps{"::ffff:10.0.0.0/104"}, deny: ps{"::ffff:10.0.0.1/128"},
			permitted: ps{"10.0.0.2"}, refused: ps{"10.0.0.1", "127.0.0.1"},
		},
		{
			name: "both forms must be permitted", allow: ps{"64:ff9b::/96", "2002::/16"},
			refused: ps{"64:ff9b::10.0.0.1", "2002:a00:1::1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := Guard{Allow: prefixes(tt.allow...), Deny: prefixes(tt.deny...)}
			target := prefixes(tt.target...)
			for _, a := range tt.permitted {
				if !g.Permits(netip.MustParseAddr(a), target...) {
					t.Errorf("%s was refused", a)
				}
			}
			for _, a := range tt.refused {
				if g.Permits(netip.MustParseAddr(a), target...) {
					t.Errorf("%s was permitted", a)
				}
			}
		})
	}
}

func prefixes(ss ...string) (ps []netip.Prefix) {
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}
