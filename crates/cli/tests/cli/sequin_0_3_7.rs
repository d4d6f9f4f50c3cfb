//! The commands of Sequin 0.3.7's README and guides, as they stand there.

use libtest_mimic::Trial;

use crate::harness::{Fixture, trials};

pub fn tests() -> Vec<Trial> {
    trials![the_readme_works_as_written, the_guides_commands_work, there_is_no_http]
}

fn the_readme_works_as_written() {
    let fixture = Fixture::new("readme_0_3_7");
    for line in [
        "sequin --help",
        "sequin stream add mystream",
        "sequin stream send mystream orders.us.cus_a.order_1 '{\"product\": \"Shoes\"}'",
        "sequin stream send mystream orders.eu.cus_b.order_2 '{\"product\": \"Pants\"}'",
        "sequin consumer add mystream us_orders --filter=\"orders.us.>\" --defaults",
    ] {
        let run = fixture.shell(line);
        assert_eq!(run.code, 0, "{line}: {run:?}");
    }
    let run = fixture.shell("sequin consumer receive us_orders");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("orders.us.cus_a.order_1") && run.out.contains("Shoes"), "{run:?}");
    let run = fixture.shell("sequin consumer receive us_orders");
    assert_eq!((run.code, run.err.trim()), (3, "No messages available."), "{run:?}");
}

fn the_guides_commands_work() {
    let fixture = Fixture::new("guides_0_3_7");
    for line in [
        "sequin str add default",
        "sequin s send default orders.us.1 one",
        "sequin con add default us_orders --filter=\"orders.us.>\" --ack-wait-ms=60000 --max-deliver=10 --max-ack-pending=100 --defaults",
        "sequin stream ls",
        "sequin stream info default --as-json",
        "sequin stream view default --last=10 --table",
        "sequin stream view default --filter='orders.us.>' --first=1",
        "sequin c ls",
        "sequin c info default us_orders --as-json",
        "sequin consumer peek us_orders",
        "sequin consumer edit us_orders --ack-wait-ms=90000",
        "sequin consumer receive default us_orders --batch-size=10 --ack",
    ] {
        let run = fixture.shell(line);
        assert_eq!(run.code, 0, "{line}: {run:?}");
    }
    fixture.ok(&["stream", "send", "default", "orders.us.2", "two"]);
    let id = fixture.ok(&["consumer", "receive", "us_orders", "-o", "format {ack_id}"]);
    let nack = fixture.shell(&format!("sequin consumer nack default us_orders {}", id.trim()));
    assert_eq!((nack.code, nack.out.as_str()), (0, "1\n"), "{nack:?}");
    let id =
        fixture.ok(&["consumer", "next", "us_orders", "--wait", "5 s", "-o", "format {ack_id}"]);
    let peek = fixture.shell("sequin consumer peek us_orders --pending");
    assert!(peek.out.contains(id.trim()), "{peek:?}");
    let ack = fixture.shell(&format!("sequin consumer ack default us_orders {}", id.trim()));
    assert_eq!((ack.code, ack.out.as_str()), (0, "1\n"), "{ack:?}");
    let rm = fixture.shell("sequin consumer rm default us_orders --force");
    assert_eq!(rm.code, 0, "{rm:?}");
}

fn there_is_no_http() {
    let fixture = Fixture::new("as_curl");
    let run = fixture.shell("sequin stream ls --as-curl");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("--as-sql"), "{run:?}");
}
