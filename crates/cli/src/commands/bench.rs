//! `sequin bench`: what one session reaches on this server. For comparisons, `make bench` of the sources is the tool.

use std::time::Instant;

use clap::Args;
use sequin_client::Result;
use sequin_client::calls::{consumer, message, stream};
use sequin_client::rows::{Kind, Row, Rows};
use sequin_client::sql::Statement;

use crate::app::{App, Exit};
use crate::lines::{Batch, Work};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Example:
  sequin bench --messages 2000 --size 100

Creates a stream and a consumer of its own, publishes by COPY and by publish(), receives and acks, and drops both.")]
pub struct Bench {
    /// Messages to publish and receive
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Bytes of data in each
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(16..=1_000_000))]
    size: u64,
    /// Messages of a receive and an ack
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch_size: u32,
}

/// Single calls take far longer than a COPY: a part of the messages is enough to measure them.
const PART_BY_CALL: u64 = 100;

impl Bench {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let name = format!("sequin_bench_{}", std::process::id());
        let create = stream::create(&name, &Default::default());
        if app.prints_sql(&create)? {
            return Ok(Exit::Done);
        }
        if app.options.dry_run {
            app.say(&format!(
                "dry run: stream {name} would be created, measured with, and dropped"
            ));
            return Ok(Exit::Done);
        }
        let format = app.format()?;
        app.query(&create).await?;
        let result = self.measure(app, &name).await;
        // Also after an error, and after Ctrl-C.
        let dropped = app.query(&stream::drop(&name, true)).await;
        let rows = result?;
        dropped?;
        let columns = [
            ("step", Kind::Text),
            ("messages", Kind::Int),
            ("seconds", Kind::Int),
            ("per_second", Kind::Int),
        ];
        let columns = Statement::new("", &columns).columns;
        format.print(Layout::Table, &Rows { columns, rows })?;
        Ok(Exit::Done)
    }

    async fn measure(&self, app: &mut App, name: &str) -> Result<Vec<Row>> {
        let settings = consumer::ConsumerSettings { ordered: Some(false), ..Default::default() };
        let start = consumer::Start::Beginning;
        app.query(&consumer::create(name, name, &settings, &start)).await?;
        let mut rows = Vec::new();

        let data = format!("{{\"text\": \"{}\"}}", "x".repeat(self.size as usize - 13));
        let begun = Instant::now();
        let mut sent = 0;
        while sent < self.messages {
            let mut batch = Batch::new(1);
            while sent < self.messages && !batch.is_full() {
                let line = format!("{{\"key\": \"bench.{}\", \"data\": {data}}}", sent % 1000);
                batch.add(line.as_bytes(), sent + 1).map_err(sequin_client::Error::local)?;
                sent += 1;
            }
            if let Work::Copy(sql, bytes) = batch.into_work(name) {
                app.session().await?.copy_in(&sql, bytes).await?;
            }
        }
        rows.push(row("publish by COPY", sent, begun));

        let calls = (self.messages / PART_BY_CALL).max(1);
        let begun = Instant::now();
        for _ in 0..calls {
            let new = message::NewMessage { key: "bench.call", data: &data, ..Default::default() };
            app.query(&message::publish(name, &new)).await?;
        }
        rows.push(row("publish()", calls, begun));

        let begun = Instant::now();
        let mut received = 0;
        loop {
            let wait = Some("1 s").filter(|_| received < sent + calls);
            let got = app.query(&consumer::receive(name, self.batch_size, wait, None)).await?;
            if got.rows.is_empty() {
                break;
            }
            let ids: Vec<i64> = got.all("ack_id").filter_map(|id| id.parse().ok()).collect();
            app.query(&consumer::ack(name, &ids)).await?;
            received += ids.len() as u64;
        }
        rows.push(row("receive() and ack()", received, begun));
        Ok(rows)
    }
}

fn row(step: &str, messages: u64, begun: Instant) -> Row {
    let seconds = begun.elapsed().as_secs_f64();
    let rate = messages as f64 / seconds.max(1e-6);
    [step.to_owned(), messages.to_string(), format!("{seconds:.3}"), format!("{rate:.0}")]
        .map(Some)
        .into()
}
