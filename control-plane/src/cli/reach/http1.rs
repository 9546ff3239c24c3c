//! HTTP/1.1 on any stream, and one request through the API server.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::{task::AbortHandle, time::timeout};

use super::{super::cluster::chain, Stream};

/// Longest answer that is read: `/edges` of a proxy with all its series has less than half of it.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// For the rest of an answer that is an error.
const REST: Duration = Duration::from_secs(2);

/// An answer whose body may go on. Dropping it closes the connection.
pub(in super::super) struct Exchange {
    response: Response<Incoming>,
    connection: AbortHandle,
}

impl Exchange {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece of the body; `None` at its end.
    pub(in super::super) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.response.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(chain(&error))),
            }
        }
    }

    /// The body of a short answer, as far as it comes.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < MAX_ANSWER
            && let Ok(Some(Ok(data))) = timeout(REST, self.next()).await
        {
            all.extend_from_slice(&data);
        }
        all
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Sends `GET PATH` and waits for the head of the answer.
pub(super) async fn open(stream: Box<dyn Stream>, host: &str, path: &str) -> Result<Exchange, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    let connection = tokio::spawn(connection).abort_handle();
    let request = Request::get(path).header(header::HOST, host).body(Empty::<Bytes>::new());
    let request = request.map_err(|e| format!("{host}{path}: {e}"))?;
    match sender.send_request(request).await {
        Ok(response) => Ok(Exchange { response, connection }),
        Err(error) => {
            connection.abort();
            Err(chain(&error))
        }
    }
}

/// The whole answer to `GET PATH`.
pub(super) async fn get(stream: Box<dyn Stream>, host: &str, path: &str) -> Result<(StatusCode, Bytes), String> {
    let exchange = open(stream, host, path).await?;
    let status = exchange.status();
    let mut exchange = exchange;
    let mut all = Vec::new();
    while let Some(data) = exchange.next().await {
        all.extend_from_slice(&data?);
        if all.len() > MAX_ANSWER {
            return Err(format!("an answer of more than {MAX_ANSWER} bytes"));
        }
    }
    Ok((status, all.into()))
}

/// The whole answer to `GET URI` of the API server.
pub(super) async fn get_through(client: &Client, uri: &str) -> Result<(StatusCode, Bytes), String> {
    let request = Request::get(uri).body(kube::client::Body::empty()).map_err(|e| format!("{uri}: {e}"))?;
    let response = client.send(request).await.map_err(|e| chain(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    Ok((status, body.map_err(|e| e.to_string())?.to_bytes()))
}
