//! The job libraries of Node and Python: bench/peers/libraries/run.sh runs each in processes of its own, with its own
//! workers. Consumers are as many queues.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::peer::{Done, Latency, Load, Ordered, Peer, Work};
use sequin_testkit::cluster::{Cluster, Database};

pub const NAMES: [&str; 3] = ["pg-boss", "graphile-worker", "procrastinate"];

pub struct Library<'a> {
    name: &'static str,
    database: Database<'a>,
    /// For which that has been set up.
    queues: usize,
}

impl<'a> Library<'a> {
    pub fn new(name: &'static str, cluster: &'a Cluster) -> Self {
        Self { name, database: database(cluster, name, 0), queues: 0 }
    }

    /// Queues that are there, and empty. Each number of them has a new database.
    fn empty(&mut self, load: &Load) -> Result<(), String> {
        if self.queues != load.consumers {
            self.queues = load.consumers;
            self.database = database(self.database.cluster, self.name, self.queues);
            self.call("setup", json!({}))?;
        }
        self.call("cleanup", json!({}))?;
        self.database.connect().batch_execute("CHECKPOINT").unwrap();
        Ok(())
    }

    fn publish(&self, load: &Load, count: usize) -> Result<Done, String> {
        let Load { publishers, batch, bytes, .. } = load;
        let arguments =
            json!({"clients": publishers, "batch": batch, "bytes": bytes, "count": count});
        done(&self.call("publish", arguments)?)
    }

    /// A message counts once, whatever the number of queues that have a copy.
    fn work(&self, load: &Load, count: usize) -> Result<Done, String> {
        let Load { workers, batch, .. } = load;
        let arguments = json!({"clients": workers, "batch": batch, "count": count});
        let worked = done(&self.call("work", arguments)?)?;
        if worked.messages < count * load.consumers {
            return Err(format!("{} handled of {count}", worked.messages));
        }
        Ok(Done { messages: count, ..worked })
    }

    fn call(&self, command: &str, arguments: Value) -> Result<Value, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/peers/libraries/run.sh");
        let address = "SELECT current_setting('unix_socket_directories'), current_setting('port')";
        let address = self.database.connect().query_one(address, &[]).unwrap();
        let (host, port): (String, String) = (address.get(0), address.get(1));
        let mut all = json!({
            "host": host, "port": port.parse::<u16>().unwrap(), "user": "postgres",
            "database": self.database.name, "queues": self.queues,
        });
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        all.as_object_mut().unwrap().extend(arguments);
        let mut run = Command::new(script);
        run.args([self.name, command, &all.to_string()]).stdin(Stdio::null());
        let output = run.output().map_err(|error| format!("{script}: {error}"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            eprintln!("{} {command} {all}\n{errors}", self.name);
            let last = errors.trim().lines().last().unwrap_or("no reason given");
            return Err(format!("{command}: {last}"));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{command}: {error}"))
    }
}

fn database<'a>(cluster: &'a Cluster, name: &str, queues: usize) -> Database<'a> {
    cluster.database_without_extension(&format!("{}_{queues}", super::database_name(name)))
}

fn done(value: &Value) -> Result<Done, String> {
    let number = |name: &str| value[name].as_f64().ok_or_else(|| format!("no {name} in {value}"));
    Ok(Done { messages: number("messages")? as usize, seconds: number("seconds")? })
}

impl Peer for Library<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, work: Work, load: &Load, count: usize) -> Result<usize, String> {
        self.empty(load)?;
        if work != Work::Consume {
            return Ok(load.whole(count));
        }
        let load = load.filling();
        let done = self.publish(&load, load.whole(count))?;
        self.database.connect().batch_execute("VACUUM ANALYZE").unwrap();
        Ok(done.messages)
    }

    fn perform(&mut self, work: Work, load: &Load, count: usize) -> Result<Done, String> {
        match work {
            Work::Publish => self.publish(load, count),
            Work::Consume => self.work(load, count),
            // Its workers wait for the first message; the clock runs from its start to the last completion.
            Work::Cycle => thread::scope(|scope| {
                let working = scope.spawn(|| self.work(load, count));
                let published = self.publish(load, count);
                let worked = working.join().unwrap();
                published.and(worked)
            }),
        }
    }

    fn latency(&mut self, load: &Load, rate: usize, time: Duration) -> Result<Latency, String> {
        self.empty(load)?;
        let arguments = json!({
            "rate": rate, "seconds": time.as_secs_f64(), "bytes": load.bytes,
            "clients": load.workers,
        });
        let value = self.call("latency", arguments)?;
        let millis = value["millis"].as_array().ok_or("no millis")?;
        let millis: Vec<f64> = millis.iter().filter_map(Value::as_f64).collect();
        let reached = millis.len() as f64 / time.as_secs_f64();
        Ok(Latency { rate: value["rate"].as_f64().unwrap_or(reached), millis })
    }

    fn order(&mut self, load: &Load, keys: usize, count: usize) -> Result<Ordered, String> {
        self.empty(load)?;
        let Load { workers, bytes, .. } = load;
        let arguments = json!({"clients": workers, "keys": keys, "count": count, "bytes": bytes});
        let value = self.call("order", arguments)?;
        match value["unsupported"].as_str() {
            Some(reason) => Err(reason.into()),
            None => Ok(Ordered { done: done(&value)?, broken: None }),
        }
    }

    fn disk(&self) -> i64 {
        let query = "SELECT pg_database_size(current_database())";
        self.database.connect().query_one(query, &[]).unwrap().get(0)
    }
}
