//! Spans arrive at a real OTLP/gRPC receiver. A program of its own: a process opens its log once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops there")]

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use stoa_daemon::log::{self, LogOptions};
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_arrive_with_their_service_their_fields_and_their_parents() {
    let receiver = Receiver::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(receiver.clone()))
        .serve_with_incoming(incoming);
    let server = tokio::spawn(server);

    let options = LogOptions {
        level: "error".to_owned(),
        otlp_endpoint: Some(format!("http://{address}")),
        service: "stoa-test",
    };
    let guard = log::open(&options).unwrap();
    {
        let outer = tracing::info_span!(target: "stoa_daemon", "outer").entered();
        tracing::debug_span!(target: "stoa_daemon", "inner", samples = 42).in_scope(|| {
            tracing::info!(target: "stoa_daemon", "half way");
        });
        tracing::info_span!(target: "other_crate", "not ours").in_scope(|| {});
        drop(outer);
    }
    // dropping blocks until what is queued has been sent
    tokio::task::spawn_blocking(move || drop(guard)).await.unwrap();
    server.abort();

    let requests = receiver.0.lock().unwrap().clone();
    let resource = requests[0].resource_spans[0].resource.clone().unwrap();
    let service = resource.attributes.iter().find(|a| a.key == "service.name").unwrap();
    let service = service.value.clone().unwrap().value;
    assert_eq!(service, Some(Value::StringValue("stoa-test".to_owned())));
    let spans: Vec<_> = requests
        .iter()
        .flat_map(|request| &request.resource_spans)
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect();
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["inner", "outer"]);
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!(named("inner").parent_span_id, named("outer").span_id);
    assert_eq!(named("inner").events[0].name, "half way");
    let samples = named("inner").attributes.iter().find(|a| a.key == "samples").unwrap();
    assert_eq!(samples.value.clone().unwrap().value, Some(Value::IntValue(42)));
}
