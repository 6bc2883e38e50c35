import CPUDevice
import CPUKernels
import ModelFiles

/// A tensor of a model with the adapters that belong to it, decoded to fp32 by ranges of rows.
///
/// A matrix W of `[outputs, inputs]` reads as W + Σ scale · B · A, added in fp32 without rounding in between. An adapter with
/// magnitudes m (DoRA) scales each row of the sum so far to its length, m / ‖W + scale · B · A‖: adapters are taken in their
/// order, each onto what those before it left, as PEFT's `merge_and_unload` does.
public struct MergedTensor: Sendable {
  /// A stored tensor and what is added to it.
  struct Part: Sendable {
    let stored: StoredTensor
    let additions: [AdapterFile.Pair]

    var rowCount: Int { stored.rowCount }
  }

  /// Its name in Hugging Face's spelling.
  public let name: String
  /// Its dimensions, the one that runs fastest in memory last.
  public let shape: [Int]
  /// The tensors that it is made of, one above the other.
  let parts: [Part]

  /// The stored tensors that it is made of, one above the other, without what adapters add.
  package var storedParts: [StoredTensor] { parts.map(\.stored) }

  /// How its numbers are stored in the model; `nil` where its parts differ.
  public var storedFormat: StorageFormat? {
    parts.allSatisfy { $0.stored.format == parts.first?.stored.format } ? parts.first?.stored.format : nil
  }

  /// Whether an adapter adds to it.
  public var isAdapted: Bool { parts.contains { !$0.additions.isEmpty } }

  /// The length of a row: the last dimension.
  public var rowLength: Int { shape.last ?? 1 }

  /// The number of rows: the product of all dimensions but the last.
  public var rowCount: Int { parts.reduce(0) { $0 + $1.rowCount } }

  /// Opens the tensor to read rows in any order; keeps the decoded A and B of one part at a time.
  public func makeReader() -> MergedTensorReader { MergedTensorReader(self) }

  /// Reads all rows in order, a few megabytes at a time: `body` receives a range of rows and their values.
  public func forEachPiece(
    _ body: (_ rows: Range<Int>, _ values: UnsafeBufferPointer<Float>) throws -> Void
  ) throws {
    let reader = makeReader()
    let rowsAtOnce = max(1, MergedTensorReader.pieceByteCount / 4 / max(rowLength, 1))
    var values = [Float](repeating: 0, count: min(rowsAtOnce, max(rowCount, 1)) * max(rowLength, 1))
    var start = 0
    for part in parts {
      part.stored.prefetch()
      let end = start + part.rowCount
      while start < end {
        let rows = start..<min(start + rowsAtOnce, end)
        try values.withUnsafeMutableBufferPointer { values in
          guard let base = values.baseAddress else { return }
          try reader.decode(rows: rows, into: base)
          try body(rows, UnsafeBufferPointer(start: base, count: rows.count * rowLength))
        }
        // An embedding alone can have a gigabyte.
        reader.release(rows: rows)
        start = rows.upperBound
      }
      part.stored.releasePages()
    }
  }
}

/// Rows of one ``MergedTensor`` in any order; use it from one thread at a time.
public final class MergedTensorReader {
  /// Bytes of fp32 that are read at a time.
  static let pieceByteCount = 8 << 20
  /// Rows that one thread decodes at a time.
  private static let rowsPerTask = 64

  /// The tensor that is read.
  public let tensor: MergedTensor
  private var loaded: (part: Int, factors: [Factors])?

  /// A pair in fp32.
  private struct Factors {
    let rank: Int
    let scale: Float
    /// `[rank, inputs]`.
    let a: [Float]
    /// `[outputs, rank]`.
    let b: [Float]
    /// DoRA's, `[outputs]`.
    let magnitudes: [Float]?

    /// Brings some of W's rows, `[rows.count, width]`, to what the pair makes of them.
    func add(to target: UnsafeMutablePointer<Float>, _ rows: Range<Int>, width: Int) {
      a.withUnsafeBufferPointer { a in
        b.withUnsafeBufferPointer { b in
          guard let a = a.baseAddress, let b = b.baseAddress else { return }
          sl_add_low_rank(
            Int64(rows.count), Int64(width), Int64(rank), scale, b + rows.lowerBound * rank, a, target)
        }
      }
      guard let magnitudes else { return }
      var norms = [Float](repeating: 0, count: rows.count)
      sl_row_norms(Int64(rows.count), Int64(width), target, &norms)
      // Rows of zeros stay zeros, as in training.
      sl_scale_rows(
        Int64(rows.count), Int64(width), zip(magnitudes[rows], norms).map { $1 > 0 ? $0 / $1 : 0 }, target)
    }
  }

  init(_ tensor: MergedTensor) { self.tensor = tensor }

  /// Decodes rows of the matrix `[rowCount, rowLength]`, the adapters added, to fp32.
  ///
  /// `target` must have room for `rows.count * rowLength` floats. Values that are no finite numbers, in the model or in an
  /// adapter, are an error that names the tensor.
  public func decode(rows: Range<Int>, into target: UnsafeMutablePointer<Float>) throws {
    guard rows.lowerBound >= 0, rows.upperBound <= tensor.rowCount else {
      throw ModelFileError(tensor.name, "has \(tensor.rowCount) rows, rows \(rows) were asked for")
    }
    var first = 0
    for (index, part) in tensor.parts.enumerated() {
      let inside = rows.clamped(to: first..<first + part.rowCount)
      if !inside.isEmpty {
        try decode(
          index, inside.lowerBound - first..<inside.upperBound - first,
          into: target + (inside.lowerBound - rows.lowerBound) * tensor.rowLength)
      }
      first += part.rowCount
    }
  }

  /// Gives back the memory of the model's file that rows were decoded from.
  public func release(rows: Range<Int>) {
    var first = 0
    for part in tensor.parts {
      let inside = rows.clamped(to: first..<first + part.rowCount)
      if !inside.isEmpty {
        part.stored.releasePages(rows: inside.lowerBound - first..<inside.upperBound - first)
      }
      first += part.rowCount
    }
  }

  private func decode(_ index: Int, _ rows: Range<Int>, into target: UnsafeMutablePointer<Float>) throws {
    let part = tensor.parts[index]
    let width = tensor.rowLength
    // Tasks write rows of their own only.
    nonisolated(unsafe) let target = target
    try parallel(tasks: (rows.count + Self.rowsPerTask - 1) / Self.rowsPerTask) { task in
      let start = rows.lowerBound + task * Self.rowsPerTask
      let some = start..<min(start + Self.rowsPerTask, rows.upperBound)
      let place = target + (start - rows.lowerBound) * width
      try part.stored.decode(rows: some, into: place)
      try part.stored.requireFinite(place, count: some.count * width)
    }
    if part.additions.isEmpty { return }
    for factor in try factors(of: index) { factor.add(to: target, rows, width: width) }
    do { try part.stored.requireFinite(target, count: rows.count * width) } catch {
      throw ModelFileError(
        part.additions[0].a.file.path, "with the adapter added, tensor '\(tensor.name)' leaves the range of fp32")
    }
  }

  private func factors(of index: Int) throws -> [Factors] {
    if let loaded, loaded.part == index { return loaded.factors }
    let factors = try tensor.parts[index].additions.map { pair in
      Factors(
        rank: pair.rank, scale: Float(pair.scale), a: try pair.a.finite(), b: try pair.b.finite(),
        magnitudes: try pair.magnitude?.finite())
    }
    loaded = (index, factors)
    return factors
  }
}
