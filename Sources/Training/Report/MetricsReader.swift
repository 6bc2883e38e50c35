import JSONValues
import ModelFiles

/// Reads `metrics.jsonl` as it grows: each whole line once.
public struct MetricsReader: Sendable {
  private let path: String
  private var position = 0

  /// A reader from the file's beginning.
  public init(path: String) { self.path = path }

  /// The lines that came since the last call; a line that is not whole yet, or no metrics, is left out.
  public mutating func newPoints() -> [MetricsLine] {
    guard let file = try? MappedFile(path: path), file.bytes.count > position else { return [] }
    var points: [MetricsLine] = []
    while position < file.bytes.count, let end = file.bytes[position...].firstIndex(of: 0x0A) {
      let line = try? JSONValue.parse(UnsafeRawBufferPointer(rebasing: file.bytes[position..<end]))
      if let point = line.flatMap(MetricsLine.init) { points.append(point) }
      position = end + 1
    }
    return points
  }
}
