//! One connection to one replica.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::OPERATOR;
use crate::tls::operator_name;
use crate::wire::schema as wire;

/// How long TCP, TLS and HTTP/2 may take together.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer to the call may take: whether the token is good.
const CALL_PATIENCE: Duration = Duration::from_secs(15);
/// How often a sign of life is asked for, and how long it may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// The largest message: a part is far smaller, unless one profile makes it large.
const LARGEST: usize = 16 * 1024 * 1024;
/// How much may be on its way to the agent.
const WINDOW: u32 = 1024 * 1024;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot connect to the operator at {0}: {1}")]
    Tcp(SocketAddr, #[source] io::Error),
    /// Whom to believe may have changed.
    #[error("the operator at {0} is not believed: {1}; is the clock right?")]
    Tls(SocketAddr, #[source] rustls::Error),
    #[error("the operator at {0} does not speak HTTP/2: {1}")]
    Http(SocketAddr, #[source] hyper::Error),
    #[error("the operator at {0} did not answer in time")]
    Late(SocketAddr),
    #[error("the operator at {0} refuses: {message}", message = .1.message())]
    Refused(SocketAddr, #[source] Box<Status>),
}

/// A stream to a replica, with the task that drives it.
pub(super) struct Stream {
    pub(super) inbound: Streaming<wire::FromOperator>,
    pub(super) out: mpsc::Sender<wire::FromAgent>,
    /// Ends the connection when it is dropped.
    _driver: JoinSet<()>,
}

/// Connects, and calls.
pub(super) async fn connect(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    authorization: MetadataValue<Ascii>,
) -> Result<Stream, ConnectError> {
    let (send, driver) = timeout(PATIENCE, dial(address, tls)).await.map_err(|_| ConnectError::Late(address))??;
    let (out, receiver) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("authorization", authorization);
    let codec: ProstCodec<wire::FromAgent, wire::FromOperator> = ProstCodec::default();
    let origin = Uri::builder().scheme("https").authority(OPERATOR).path_and_query("/").build();
    let mut grpc = Grpc::with_origin(Http2(send), origin.unwrap_or_default()).max_decoding_message_size(LARGEST);
    let path = http::uri::PathAndQuery::from_static(wire::FOLLOW);
    let call = timeout(CALL_PATIENCE, grpc.streaming(request, path, codec)).await;
    let called = call.map_err(|_| ConnectError::Late(address))?;
    let response = called.map_err(|status| ConnectError::Refused(address, Box::new(status)))?;
    Ok(Stream { inbound: response.into_inner(), out, _driver: driver })
}

async fn dial(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<(SendRequest<Body>, JoinSet<()>), ConnectError> {
    let failed = |error| ConnectError::Tcp(address, error);
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let name = operator_name().map_err(|error| ConnectError::Tls(address, error))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| tls_or_tcp(address, error))?;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .keep_alive_while_idle(true);
    let (send, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| ConnectError::Http(address, error))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        _ = connection.await;
    });
    Ok((send, driver))
}

/// Errors of TLS come wrapped into those of reading and writing.
fn tls_or_tcp(address: SocketAddr, error: io::Error) -> ConnectError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => ConnectError::Tls(address, inner.clone()),
        None => ConnectError::Tcp(address, error),
    }
}

/// The connection, as something that takes calls.
struct Http2(SendRequest<Body>);

impl GrpcService<Body> for Http2 {
    type ResponseBody = Incoming;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
