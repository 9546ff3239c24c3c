//! The gRPC health check (`grpc.health.v1.Health/Check`), in plaintext as the kubelet makes it.
//!
//! One call on one connection, so it is made with the HTTP/2 crate itself: a gRPC channel reconnects, balances and
//! keeps alive, none of which a probe may do.

use std::{net::SocketAddr, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use prost::Message;

use super::connect;

/// `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;
/// Bytes of an answer that are read: the message is two bytes behind a prefix of five.
const ANSWER: usize = 4096;
/// `UNIMPLEMENTED` of `grpc-status`.
const UNIMPLEMENTED: &str = "12";
/// Time for the last frames: a stream that is dropped with its connection may look broken to the server.
const GOODBYE: Duration = Duration::from_millis(100);

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks for `service`; empty: for the server as a whole.
///
/// # Errors
/// Why it does not count as healthy.
pub(super) async fn check(at: SocketAddr, service: &str, agent: &HeaderValue) -> Result<String, String> {
    let tcp = connect(at).await?;
    let (send, connection) = h2::client::handshake(tcp).await.map_err(|e| format!("{at} speaks no HTTP/2: {e}"))?;
    let call = call(send, at, service, agent);
    tokio::pin!(call, connection);
    let result = tokio::select! {
        result = &mut call => result,
        ended = &mut connection => return Err(match ended {
            Ok(()) => format!("{at} closed the connection"),
            Err(e) => format!("the connection to {at} broke: {e}"),
        }),
    };
    // All handles are dropped, so the connection says GOAWAY and ends.
    drop(tokio::time::timeout(GOODBYE, connection).await);
    result
}

async fn call(
    send: h2::client::SendRequest<Bytes>,
    at: SocketAddr,
    service: &str,
    agent: &HeaderValue,
) -> Result<String, String> {
    let broke = |e: h2::Error| format!("the call to {at} broke: {e}");
    let mut send = send.ready().await.map_err(broke)?;
    let request = Request::post(format!("http://{at}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", agent)
        .body(())
        .map_err(|e| format!("no request can be made: {e}"))?;
    let (response, mut body) = send.send_request(request, false).map_err(broke)?;
    body.send_data(framed(&HealthCheckRequest { service: service.to_owned() }), true).map_err(broke)?;
    let response = response.await.map_err(broke)?;
    if response.status() != StatusCode::OK {
        return Err(format!("HTTP status {}, which is no gRPC", response.status().as_u16()));
    }
    let head = response.headers().clone();
    let (message, trailers) = read(response.into_body()).await.map_err(broke)?;
    judge(&message, &trailers.unwrap_or(head))
}

/// Message and trailers.
async fn read(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data[..data.len().min(ANSWER - message.len().min(ANSWER))]);
        if message.len() >= ANSWER {
            return Ok((message, None));
        }
    }
    Ok((message, body.trailers().await?))
}

fn judge(message: &[u8], trailers: &HeaderMap) -> Result<String, String> {
    let text = |name: &str| trailers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "0" => {}
        "" => return Err("the answer has no grpc-status".into()),
        UNIMPLEMENTED => return Err("the server does not implement grpc.health.v1.Health".into()),
        status => return Err(format!("grpc-status {status}: {}", text("grpc-message"))),
    }
    let answer = message.get(5..).and_then(|m| HealthCheckResponse::decode(m).ok());
    match answer.ok_or("the answer is no HealthCheckResponse")?.status {
        SERVING => Ok("SERVING".into()),
        2 => Err("it answers NOT_SERVING".into()),
        3 => Err("it answers SERVICE_UNKNOWN".into()),
        other => Err(format!("it answers with the status {other}")),
    }
}

/// A message as gRPC frames it: not compressed, length, bytes.
fn framed(message: &HealthCheckRequest) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}
