//! One connection: TLS, HTTP/2, and the one call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::codec::Small;
use super::door::Place;
use super::{Backend, Server, session};
use crate::auth::{Caller, Judge, Refused};
use crate::metrics::Refusal;
use crate::wire::schema as wire;

/// What an agent and its connection know of each other.
pub(super) struct Tie {
    place: Mutex<Place>,
    /// Whose it is, is known.
    known: Notify,
    /// The connection is to end.
    cut: Notify,
}

impl Tie {
    fn know(&self) {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).know();
        self.known.notify_one();
    }

    /// Ends the connection, whatever is still to be sent.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<B: Backend, J: Judge>(
    server: Arc<Server<B, J>>,
    stream: TcpStream,
    place: Place,
    mut end: watch::Receiver<bool>,
) {
    let _counted = server.metrics.connections.hold();
    let Some(stream) = handshake(&server, stream).await else {
        server.metrics.refuse(Refusal::Handshake);
        return;
    };
    let tie = Arc::new(Tie { place: Mutex::new(place), known: Notify::new(), cut: Notify::new() });
    let call_limit = server.limits.call;
    let metrics = server.metrics.clone();
    let connection = http2(&server, stream, &tie);
    tokio::pin!(connection);
    let known = async {
        if timeout(call_limit, tie.known.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = &mut connection => {}
        () = tie.cut.notified() => {}
        () = known => metrics.refuse(Refusal::Late),
        _ = end.wait_for(|end| *end) => {}
    }
}

async fn handshake<B, J>(server: &Server<B, J>, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    stream.set_nodelay(true).ok()?;
    let acceptor = TlsAcceptor::from(server.tls.clone());
    match timeout(server.limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => (stream.get_ref().1.alpn_protocol() == Some(b"h2")).then_some(stream),
        Ok(Err(error)) => {
            debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

fn http2<B: Backend, J: Judge>(
    server: &Arc<Server<B, J>>,
    stream: TlsStream<TcpStream>,
    tie: &Arc<Tie>,
) -> impl Future<Output = ()> {
    let limits = server.limits;
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(1)
        .max_header_list_size(16 * 1024)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(64 * 1024)
        .max_send_buf_size(32 * 1024)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive);
    let (server, tie) = (server.clone(), tie.clone());
    let service = service_fn(move |request| {
        let call = answer(server.clone(), tie.clone(), request);
        async move { Ok::<_, Infallible>(call.await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    async move {
        if let Err(error) = connection.await {
            debug!(%error, "connection ended");
        }
    }
}

async fn answer<B: Backend, J: Judge>(
    server: Arc<Server<B, J>>,
    tie: Arc<Tie>,
    request: http::Request<Incoming>,
) -> http::Response<Body> {
    if request.uri().path() != wire::FOLLOW {
        server.metrics.refuse(Refusal::Call);
        return Status::unimplemented("there is one call only: Follow of towpath.control.v1").into_http();
    }
    let caller = match server.authenticator.identify(request.headers()).await {
        Ok(caller) => caller,
        Err(refused) => {
            let why = if matches!(refused, Refused::Unavailable(_)) { Refusal::Review } else { Refusal::Token };
            server.metrics.refuse(why);
            debug!(%refused, "caller refused");
            return refusal(&refused).into_http();
        }
    };
    tie.know();
    let limit = server.limits.message;
    Grpc::new(Small).max_decoding_message_size(limit).streaming(Follow { server, tie, caller }, request).await
}

fn refusal(refused: &Refused) -> Status {
    match refused {
        Refused::Unavailable(_) => Status::unavailable(refused.to_string()),
        Refused::NotAnAgent(_) => Status::permission_denied(refused.to_string()),
        _ => Status::unauthenticated(refused.to_string()),
    }
}

/// The one call, once it is known who makes it.
struct Follow<B, J> {
    server: Arc<Server<B, J>>,
    tie: Arc<Tie>,
    caller: Caller,
}

impl<B: Backend, J: Judge> StreamingService<wire::FromAgent> for Follow<B, J> {
    type Response = wire::FromOperator;
    type ResponseStream = ReceiverStream<Result<wire::FromOperator, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<wire::FromAgent>>) -> Self::Future {
        // One message at a time: what is not sent yet stays with the session, where it can be put together.
        let (out, receiver) = mpsc::channel(1);
        let session =
            session::run(self.server.clone(), self.tie.clone(), self.caller.clone(), request.into_inner(), out);
        tokio::spawn(session);
        Box::pin(async { Ok(Response::new(ReceiverStream::new(receiver))) })
    }
}
