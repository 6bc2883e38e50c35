import ModelFiles
import Models
import Tensors

// What a resumed run needs of an optimizer: its moments, by the names that files give them.

extension Optimizer {
  /// One array of a state.
  private struct Entry {
    var name: String
    var shape: [Int]
    var format: StorageFormat
    var group: Int
    var kind: Kind
    /// Within the group: of elements, or of scales.
    var range: Range<Int>
    var byteCount: Int { range.count * (format == .uint8 ? 1 : 4) }
  }

  /// Which of a group's moments.
  private enum Kind { case first, second, firstCodes, secondCodes, firstScales, secondScales }

  private var entries: [Entry] {
    var entries: [Entry] = []
    for (index, group) in groups.enumerated() {
      let parts = learned.parts.filter { group.range.contains($0.range.lowerBound) }
      func add(_ name: String, _ format: StorageFormat, _ kind: Kind) {
        for part in parts {
          let first = part.range.lowerBound - group.range.lowerBound
          entries.append(
            Entry(
              name: "\(part.name).\(name)", shape: part.shape, format: format, group: index, kind: kind,
              range: first..<first + part.range.count))
        }
      }
      guard group.isQuantized else {
        add("first_moment", .float32, .first)
        add("second_moment", .float32, .second)
        continue
      }
      add("first_codes", .uint8, .firstCodes)
      add("second_codes", .uint8, .secondCodes)
      let scales = (group.range.count + QuantizedMoments.blockLength - 1) / QuantizedMoments.blockLength
      for (name, kind) in [("first", Kind.firstScales), ("second", .secondScales)] {
        entries.append(
          Entry(
            name: "group\(index).\(name)_scales", shape: [scales], format: .float32, group: index, kind: kind,
            range: 0..<scales))
      }
    }
    return entries
  }

  /// The array of a kind in a stretch of a group's moments, and the elements or scales of the group that it holds.
  private func array(_ kind: Kind, _ moments: Moments, _ part: Range<Int>) -> (tensor: Tensor, range: Range<Int>)? {
    switch (moments, kind) {
    case (.exact(let first, _), .first): return (first, part)
    case (.exact(_, let second), .second): return (second, part)
    case (.quantized(let moments), .firstCodes): return (moments.firstCodes, part)
    case (.quantized(let moments), .secondCodes): return (moments.secondCodes, part)
    case (.quantized(let moments), .firstScales), (.quantized(let moments), .secondScales):
      let scales = kind == .firstScales ? moments.firstScales : moments.secondScales
      let first = part.lowerBound / QuantizedMoments.blockLength
      return (scales, first..<first + scales.columns)
    default: return nil
    }
  }

  /// Gives `body` every stretch of every array on the device, and where in its entry it lies, in bytes.
  private func forEachStretch(
    of entries: [Entry], changes: Bool, _ body: (_ entry: Int, _ tensor: Tensor, _ byteOffset: Int) throws -> Void
  ) throws {
    try forEachMoments(changes: changes) { group, part, moments in
      for (index, entry) in entries.enumerated() where entry.group == group {
        guard let (tensor, range) = array(entry.kind, moments, part), range.overlaps(entry.range) else { continue }
        let common = range.clamped(to: entry.range)
        let stretch = common.lowerBound - range.lowerBound..<common.upperBound - range.lowerBound
        let size = entry.format == .uint8 ? 1 : 4
        try body(index, tensor.columns(stretch), (common.lowerBound - entry.range.lowerBound) * size)
      }
    }
  }

  /// A copy of the moments in the host's memory.
  func state() throws -> [StateTensor] {
    let entries = entries
    var bytes = entries.map { [UInt8](repeating: 0, count: $0.byteCount) }
    try forEachStretch(of: entries, changes: false) { index, tensor, offset in
      try bytes[index].withUnsafeMutableBytes { target in
        let part = target[offset..<offset + tensor.byteCount]
        try device.download(tensor, to: UnsafeMutableRawBufferPointer(rebasing: part))
      }
    }
    return zip(entries, bytes).map { StateTensor(name: $0.name, shape: $0.shape, format: $0.format, bytes: $1) }
  }

  /// Bytes that ``state()`` takes.
  var stateByteCount: Int { entries.reduce(0) { $0 + $1.byteCount } }

  /// Goes on after `step` steps from the moments that were written to `path`.
  func restore(from path: String, step: Int) throws {
    let entries = entries
    var read = [[UInt8]](repeating: [], count: entries.count)
    try StateTensors.read(path, entries.map { ($0.name, $0.shape, $0.format) }) { index, bytes in
      read[index] = [UInt8](bytes)
    }
    try forEachStretch(of: entries, changes: true) { index, tensor, offset in
      try read[index].withUnsafeBytes { source in
        try device.upload(UnsafeRawBufferPointer(rebasing: source[offset..<offset + tensor.byteCount]), to: tensor)
      }
    }
    self.step = step
  }
}
