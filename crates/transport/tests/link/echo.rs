//! A gRPC service over plain bytes, without any proto: one door for all tests.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use stoa_transport::Peer;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{ClientStreamingService, NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// The listener's side of the service.
#[derive(Clone)]
pub(crate) struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "test.Echo";
}

type Reply = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

/// Sends the bytes back.
struct Echo;
/// Says who calls, as the handler sees it.
struct Whoami;
/// Answers after as many milliseconds as there are bytes.
struct Slow;
/// As slow, but answers with a thousand times the bytes.
struct Large;
/// Swallows a stream; says how many bytes it was.
struct Sink;

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Reply;

    fn call(&mut self, request: Request<Bytes>) -> Reply {
        Box::pin(async { Ok(Response::new(request.into_inner())) })
    }
}

impl UnaryService<Bytes> for Whoami {
    type Response = Bytes;
    type Future = Reply;

    fn call(&mut self, request: Request<Bytes>) -> Reply {
        let peer = request.extensions().get::<Peer>().cloned();
        Box::pin(async move {
            let peer = peer.ok_or_else(|| Status::internal("no peer"))?;
            let host = peer.host.as_deref().unwrap_or("-");
            Ok(Response::new(format!("{host} {} {}", peer.via, peer.class).into()))
        })
    }
}

impl UnaryService<Bytes> for Slow {
    type Response = Bytes;
    type Future = Reply;

    fn call(&mut self, request: Request<Bytes>) -> Reply {
        let wait = Duration::from_millis(request.get_ref().len() as u64);
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Ok(Response::new(request.into_inner()))
        })
    }
}

impl UnaryService<Bytes> for Large {
    type Response = Bytes;
    type Future = Reply;

    fn call(&mut self, request: Request<Bytes>) -> Reply {
        let slow = Slow.call(request);
        Box::pin(async { Ok(slow.await?.map(|bytes| bytes.repeat(1000).into())) })
    }
}

impl ClientStreamingService<Bytes> for Sink {
    type Response = Bytes;
    type Future = Reply;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Reply {
        Box::pin(async move {
            let mut total = 0_u64;
            let mut stream = request.into_inner();
            while let Some(bytes) = stream.next().await {
                total += bytes?.len() as u64;
            }
            Ok(Response::new(total.to_string().into()))
        })
    }
}

impl tower::Service<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw);
            Ok(match request.uri().path() {
                "/test.Echo/Echo" => grpc.unary(Echo, request).await,
                "/test.Echo/Whoami" => grpc.unary(Whoami, request).await,
                "/test.Echo/Slow" => grpc.unary(Slow, request).await,
                "/test.Echo/Large" => grpc.unary(Large, request).await,
                "/test.Echo/Sink" => grpc.client_streaming(Sink, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// Calls a unary method.
pub(crate) async fn call(
    channel: &Channel,
    method: &str,
    bytes: impl Into<Bytes>,
) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(format!("{error:?}")))?;
    let path = format!("/test.Echo/{method}").parse().unwrap();
    let reply = client.unary(Request::new(bytes.into()), path, Raw).await?;
    Ok(String::from_utf8_lossy(reply.get_ref()).into_owned())
}

/// Streams to the sink; its reply is the number of bytes that arrived.
pub(crate) async fn sink(
    channel: &Channel,
    stream: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(format!("{error:?}")))?;
    let path = "/test.Echo/Sink".parse().unwrap();
    let reply = client.client_streaming(Request::new(stream), path, Raw).await?;
    Ok(String::from_utf8_lossy(reply.get_ref()).into_owned())
}
