"""A gRPC client that knows nothing of Wattle: it asks a node what it serves and builds every message from what it learns.

It works in a map of its own, which it deletes in the end. Ends with an error when an answer is not what it must be.
"""

import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

USAGE = "usage: generic.py HOST:PORT"
MAP = "generic-client"
MAPS = "wattle.v1.MapService"
SERVICES = {
    "grpc.health.v1.Health",
    "wattle.v1.ComputeService",
    "wattle.v1.FunctionService",
    "wattle.v1.GridService",
    "wattle.v1.MapService",
}


class Node:
    """A connection, and the descriptors that the node gives."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def services(self):
        return set(self.database.get_services())

    def call(self, service, method, **fields):
        """One call with one answer."""
        descriptor = self.pool.FindServiceByName(service).methods_by_name[method]
        request = message_factory.GetMessageClass(descriptor.input_type)(**fields)
        answer = message_factory.GetMessageClass(descriptor.output_type)
        stub = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return stub(request, timeout=20)

    def stream(self, service, method, **fields):
        """One call with a stream of answers."""
        descriptor = self.pool.FindServiceByName(service).methods_by_name[method]
        request = message_factory.GetMessageClass(descriptor.input_type)(**fields)
        answer = message_factory.GetMessageClass(descriptor.output_type)
        stub = self.channel.unary_stream(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return list(stub(request, timeout=20))


def expect(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")


def error_info(error):
    """The ErrorInfo among the details of a failed call."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(details)
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    sys.exit(f"no ErrorInfo in {error}")


def use(node):
    """Writes, reads and counts in the map, and looks at the node."""
    put = node.call(MAPS, "Put", map=MAP, key=b"k", value=b"from Python")
    expect(put.version > 0, True, "whether the first put has a version")
    found = node.call(MAPS, "Get", map=MAP, key=b"k")
    expect((found.value, found.version), (b"from Python", put.version), "the entry")
    scanned = [entry.key for page in node.stream(MAPS, "Scan", map=MAP) for entry in page.entries]
    expect(scanned, [b"k"], "the keys of the map")
    expect(node.call(MAPS, "DescribeMap", name=MAP).statistics.entries, 1, "the entries of the map")
    status = node.call("wattle.v1.GridService", "Status")
    expect(len(status.members) > 0, True, "whether there are members")
    health = node.call("grpc.health.v1.Health", "Check")
    expect(health.status, 1, "the health (1 is SERVING)")
    unknown = f"{MAP}-unknown"
    try:
        node.call(MAPS, "Get", map=unknown, key=b"k")
        sys.exit("a get in an unknown map succeeded")
    except grpc.RpcError as error:
        expect(error.code(), grpc.StatusCode.NOT_FOUND, "the code")
        info = error_info(error)
        expect((info.reason, info.domain, info.metadata["map"]), ("MAP_NOT_FOUND", "wattle.dev", unknown), "ErrorInfo")
        expect(info.metadata["outcome"], "NOT_APPLIED", "the outcome")


def main(address):
    node = Node(address)
    missing = SERVICES - node.services()
    expect(missing, set(), "services that reflection does not list")
    # Refused if there is such a map: it is somebody else's, and stays as it is.
    node.call(MAPS, "CreateMap", name=MAP)
    try:
        use(node)
    finally:
        node.call(MAPS, "DeleteMap", name=MAP)
    print("a generic client has used the node")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    try:
        main(sys.argv[1])
    except grpc.RpcError as error:
        sys.exit(f"{sys.argv[1]}: {error.code().name}: {error.details()}")
