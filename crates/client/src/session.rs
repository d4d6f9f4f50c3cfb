//! A connection. Statements go as text and come back as text, so that nothing is rounded, and any pooler will do.

use bytes::Bytes;
use futures_util::{SinkExt, Stream};
use tokio::sync::mpsc;
/// What a stream of rows consists of.
pub use tokio_postgres::SimpleQueryMessage as Message;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::Result;
use crate::rows::{Row, Rows};
use crate::sql::Statement;

/// How the server is to write values.
const STYLE: &str = "SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 1";

pub struct Session {
    client: Client,
    tls: Option<MakeRustlsConnect>,
    notices: std::sync::Mutex<mpsc::UnboundedReceiver<String>>,
}

/// Stops the statement that a session runs.
pub struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    pub async fn cancel(&self) {
        // Where this fails, the statement just goes on.
        let _ = match &self.tls {
            Some(tls) => self.token.cancel_query(tls.clone()).await,
            None => self.token.cancel_query(NoTls).await,
        };
    }
}

impl Session {
    pub(crate) async fn open(
        config: &Config,
        tls: Option<&MakeRustlsConnect>,
        is_socket: bool,
    ) -> std::result::Result<Self, tokio_postgres::Error> {
        let (sender, notices) = mpsc::unbounded_channel();
        let tls = tls.filter(|_| !is_socket).cloned();
        let client = match &tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                drive(connection, sender);
                client
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                drive(connection, sender);
                client
            }
        };
        client.batch_execute(STYLE).await?;
        Ok(Self { client, tls, notices: notices.into() })
    }

    /// Runs a statement.
    pub async fn query(&self, statement: &Statement) -> Result<Rows> {
        let mut rows = Vec::new();
        for message in self.client.simple_query(&statement.sql).await? {
            if let Message::Row(row) = message {
                rows.push(texts(&row));
            }
        }
        Ok(Rows { columns: statement.columns.clone(), rows })
    }

    /// The rows of a statement as they come: for results of any size.
    pub async fn stream(
        &self,
        sql: &str,
    ) -> Result<impl Stream<Item = std::result::Result<Message, tokio_postgres::Error>> + use<>>
    {
        Ok(self.client.simple_query_raw(sql).await?)
    }

    /// Runs statements whose results don't matter.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// The first row of a statement; empty if there is none.
    pub async fn first_row(&self, sql: &str) -> Result<Row> {
        let messages = self.client.simple_query(sql).await?;
        Ok(messages
            .iter()
            .find_map(|message| match message {
                Message::Row(row) => Some(texts(row)),
                _ => None,
            })
            .unwrap_or_default())
    }

    /// COPY .. FROM STDIN of these bytes. Returns the number of rows.
    pub async fn copy_in(&self, sql: &str, data: Bytes) -> Result<u64> {
        let sink = self.client.copy_in(sql).await?;
        let mut sink = std::pin::pin!(sink);
        sink.send(data).await?;
        Ok(sink.finish().await?)
    }

    pub fn canceller(&self) -> Canceller {
        Canceller { token: self.client.cancel_token(), tls: self.tls.clone() }
    }

    /// What the server has said meanwhile, such as warnings.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Ok(mut receiver) = self.notices.lock() {
            while let Ok(notice) = receiver.try_recv() {
                notices.push(notice);
            }
        }
        notices
    }
}

/// The values of a row.
pub fn texts(row: &SimpleQueryRow) -> Row {
    (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()
}

/// Runs the connection's side of things until it ends.
fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    notices: mpsc::UnboundedSender<String>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // An error ends the statement that runs, which reports it.
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let AsyncMessage::Notice(notice) = message {
                let text = format!("{}: {}", notice.severity().to_lowercase(), notice.message());
                let _ = notices.send(text);
            }
        }
    });
}
