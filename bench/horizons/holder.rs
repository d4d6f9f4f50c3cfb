//! What keeps dead rows from being removed: how it is made, and how it ends.

use std::time::Duration;

use postgres::Client;

use super::Node;
use super::arm::{CONSUMER, STREAM};
use sequin_testkit::cluster::{Cluster, Database, Stop, wait_until};

pub struct Holder {
    pub name: &'static str,
    pub place: Place,
    take: &'static str,
    release: &'static str,
    /// Of tables. Otherwise it has only a name for doing so: no snapshot, or one for the catalogs alone.
    pub holds_rows: bool,
}

/// Where a session makes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Primary,
    /// On a standby that tells the primary what it reads.
    Standby,
    /// On the primary, for a standby that then goes away for good.
    LostStandby,
}

impl Place {
    /// A standby tells often what it reads.
    pub const FEEDBACK: &'static str =
        "hot_standby_feedback = on\nwal_receiver_status_interval = '1s'";

    pub fn has_standby(self) -> bool {
        self == Place::Standby
    }
}

pub const REPEATABLE_READ: &str = "REPEATABLE READ";

/// As the statements below have it.
const SLOT: &str = "held";

const IN_A_SESSION: Holder =
    Holder { name: "", place: Place::Primary, take: "", release: "ROLLBACK", holds_rows: true };

/// `%stream` and `%consumer` are those of the load.
pub const HOLDERS: [Holder; 9] = [
    Holder {
        name: REPEATABLE_READ,
        take: "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM sequin.consumers",
        ..IN_A_SESSION
    },
    Holder {
        name: "idle with a transaction id",
        take: "BEGIN; SELECT pg_current_xact_id()",
        ..IN_A_SESSION
    },
    Holder {
        name: "idle after publishing",
        take: "BEGIN; SELECT sequin.publish('%stream', 'held', '1')",
        ..IN_A_SESSION
    },
    Holder {
        name: "idle after receiving",
        take: "BEGIN; SELECT count(*) FROM sequin.receive('%consumer', 10, '0', '1 h')",
        holds_rows: false,
        ..IN_A_SESSION
    },
    Holder {
        name: "idle after ack",
        take: "BEGIN; SELECT sequin.ack('%consumer', array_agg(ack_id))
               FROM sequin.receive('%consumer', 10, '0', '1 h')",
        ..IN_A_SESSION
    },
    Holder {
        name: "prepared transaction",
        take: "BEGIN; CREATE TABLE own (v int); COMMIT;
               BEGIN; INSERT INTO own VALUES (1); PREPARE TRANSACTION 'held'",
        release: "ROLLBACK PREPARED 'held'",
        ..IN_A_SESSION
    },
    Holder {
        name: "abandoned logical slot",
        take: "SELECT pg_create_logical_replication_slot('held', 'test_decoding')",
        release: "SELECT pg_drop_replication_slot('held')",
        holds_rows: false,
        ..IN_A_SESSION
    },
    Holder {
        name: "abandoned slot of a standby",
        place: Place::LostStandby,
        take: "SELECT pg_create_physical_replication_slot('held')",
        release: "SELECT pg_drop_replication_slot('held')",
        ..IN_A_SESSION
    },
    Holder {
        name: "query on a standby",
        place: Place::Standby,
        take: "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_am",
        ..IN_A_SESSION
    },
];

/// For a standby on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// A holder at work, until it is released.
pub struct Held {
    pub holder: &'static Holder,
    session: Client,
}

impl Holder {
    pub fn take(&'static self, node: &Node, database: &Database) -> Held {
        let mut session = match &node.standby {
            Some(standby) if self.place == Place::Standby => {
                connect_when_replayed(standby, database)
            }
            _ => database.connect(),
        };
        let take = self.take.replace("%stream", STREAM).replace("%consumer", CONSUMER);
        session.batch_execute(&take).unwrap();
        let is_known = match self.place {
            Place::Primary => return Held { holder: self, session },
            Place::Standby => "SELECT bool_or(backend_xmin IS NOT NULL) FROM pg_stat_replication",
            Place::LostStandby => "SELECT xmin IS NOT NULL FROM pg_replication_slots",
        };
        let standby = (self.place == Place::LostStandby).then(|| {
            let slot = format!("primary_slot_name = '{SLOT}'");
            node.primary.standby_with(&format!("{}\n{slot}", Place::FEEDBACK))
        });
        let mut client = database.connect();
        wait_until("the primary knows what the standby reads", DEADLINE, || {
            client.query_one(is_known, &[]).unwrap().get::<_, Option<bool>>(0) == Some(true)
        });
        standby.iter().for_each(|standby| standby.stop(Stop::Immediate));
        Held { holder: self, session }
    }
}

impl Held {
    pub fn release(mut self) {
        self.session.batch_execute(self.holder.release).unwrap();
    }
}

fn connect_when_replayed(standby: &Cluster, database: &Database) -> Client {
    wait_until("the standby has the database", DEADLINE, || {
        standby.try_connect(&database.name).is_ok()
    });
    standby.connect(&database.name)
}
