//! Real name servers, proxies and trust stores: dnsmasq, squid and update-ca-certificates. A test whose
//! programs are missing is skipped, and prints that.

#![cfg(test)]

#[path = "../common/mod.rs"]
mod common;
mod hosts;
mod names;
mod namespace;
mod programs;
mod proxies;
mod store;

use namespace::run_all;

/// All at the same time, because each mostly waits for a resolver or a time limit.
#[test]
fn network_cases_pass_in_their_own_namespaces() {
    run_all(&[
        "names::dead_first_name_server_delays_a_token_and_each_renewal_by_its_timeout",
        "names::lookup_of_15_s_succeeds",
        "names::check_and_init_end_at_their_limit_if_no_name_server_answers",
        "names::localhost_that_is_another_host_receives_no_secret",
        "names::host_with_an_unreachable_and_a_working_address_is_reached",
        "names::host_with_ipv6_addresses_alone_is_reached",
        "store::added_ca_is_trusted_and_removed_one_distrusted_at_the_next_attempt",
    ]);
}
