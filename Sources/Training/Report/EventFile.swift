import Glibc

/// A file of events for TensorBoard: scalars and texts by step.
///
/// The file is TensorFlow's record format (tensorflow/core/lib/io/record_writer.h): length, its masked CRC-32C, an `Event`
/// message (tensorflow/core/util/event.proto), its masked CRC-32C. Nothing is read back, nothing depends on it: what
/// cannot be written is left out.
final class EventFile {
  /// The file.
  let path: String
  private let descriptor: Int32

  /// Makes a file in a folder; `nil` when that cannot be.
  ///
  /// - Parameter step: steps done before; TensorBoard forgets what an earlier file says of later ones.
  init?(folder: String, time: Double, step: Int) {
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, name.count - 1)
    let host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    guard (try? Folders.make(folder)) != nil else { return nil }
    path = "\(folder)/events.out.tfevents.\(Int(time)).\(host.isEmpty ? "localhost" : host).\(getpid()).0"
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { return nil }
    write(Self.record(Self.version(time: time)))
    write(Self.record(Self.start(time: time, step: step)))
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Appends scalars by their names.
  func add(_ values: [(name: String, value: Double)], time: Double, step: Int) {
    guard !values.isEmpty else { return }
    write(Self.record(Self.scalars(values, time: time, step: step)))
  }

  /// Appends texts by their names.
  func add(_ texts: [(name: String, text: String)], time: Double, step: Int) {
    for (name, text) in texts { write(Self.record(Self.text(name, text, time: time, step: step))) }
  }

  private func write(_ bytes: [UInt8]) {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done)
      }
      if count < 0, errno != EINTR { return }
      done += max(0, count)
    }
  }

  // MARK: Messages

  static func record(_ event: ProtocolBuffer) -> [UInt8] {
    func bytes(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    let length = bytes(UInt64(event.bytes.count))
    return length + bytes(CRC32C.masked(length)) + event.bytes + bytes(CRC32C.masked(event.bytes))
  }

  static func version(time: Double) -> ProtocolBuffer {
    var event = ProtocolBuffer()
    event.add(1, time)
    event.add(3, "brain.Event:2")
    return event
  }

  /// The start of a session, from which on steps count anew.
  static func start(time: Double, step: Int) -> ProtocolBuffer {
    var session = ProtocolBuffer()
    session.add(1, 1)
    var event = ProtocolBuffer()
    event.add(1, time)
    // A session that starts at step 0 purges nothing, and step 0 may have values.
    event.add(2, step == 0 ? 0 : step + 1)
    event.add(7, session)
    return event
  }

  static func scalars(_ values: [(name: String, value: Double)], time: Double, step: Int) -> ProtocolBuffer {
    var summary = ProtocolBuffer()
    for (name, number) in values {
      var value = ProtocolBuffer()
      value.add(1, name)
      value.add(2, Float(number))
      summary.add(1, value)
    }
    return event(summary, time, step)
  }

  static func text(_ name: String, _ text: String, time: Double, step: Int) -> ProtocolBuffer {
    var plugin = ProtocolBuffer()
    plugin.add(1, "text")
    var metadata = ProtocolBuffer()
    metadata.add(1, plugin)
    // A tensor of one string, without dimensions.
    var tensor = ProtocolBuffer()
    tensor.add(1, 7)
    tensor.add(2, ProtocolBuffer())
    tensor.add(8, text)
    var value = ProtocolBuffer()
    value.add(1, name)
    value.add(8, tensor)
    value.add(9, metadata)
    var summary = ProtocolBuffer()
    summary.add(1, value)
    return event(summary, time, step)
  }

  private static func event(_ summary: ProtocolBuffer, _ time: Double, _ step: Int) -> ProtocolBuffer {
    var event = ProtocolBuffer()
    event.add(1, time)
    event.add(2, step)
    event.add(5, summary)
    return event
  }
}
