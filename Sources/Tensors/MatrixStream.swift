/// Room for frozen matrices that lie in the host's memory and take turns on the device.
///
/// They come in segments, each of what is used together, such as a layer. The device brings a segment when one of its matrices is
/// used, and the next ones beside the computation where segments are used in their order, up or down.
public protocol MatrixStream: AnyObject, Sendable {
  /// Segments that there is room for.
  var segmentCount: Int { get }
}

/// Where a frozen matrix lies that is not always on its device.
public struct MatrixSegment: Sendable {
  /// The room.
  public let stream: any MatrixStream
  /// From 0 on, in the order in which a forward pass uses segments; matrices are made in this order too.
  public let index: Int

  /// A segment of a stream.
  public init(_ stream: any MatrixStream, _ index: Int) {
    self.stream = stream
    self.index = index
  }
}
