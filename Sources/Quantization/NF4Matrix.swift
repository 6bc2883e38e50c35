import CBlockFormats
import CPUDevice
import ModelFiles

/// A matrix in NF4 in memory.
struct NF4Matrix: Sendable {
  /// Two codes in each byte, the first in the high half.
  let codes: [UInt8]
  let absmax: DoubleQuantizedAbsmax
  /// How much less of the loss the matrix costs than with each element at the nearest: the ratio of the two errors, as
  /// calibration weighs them.
  let errorRatio: Double
  /// ‖error‖² / ‖matrix‖².
  let relativeError: Double

  /// Quantizes the rows of tensors that lie one above the other.
  ///
  /// - Parameters:
  ///   - statistics: of the inputs; without them, and where blocks do not fit rows, everything goes to the nearest.
  ///   - compensation: of the same inputs, for `Rounding.compensated`.
  init(
    _ rows: StackedRows, _ rounding: Rounding, _ statistics: InputStatistics?, _ compensation: Compensation? = nil
  ) throws {
    let width = rows.width
    guard width % NF4Encoder.blockLength == 0 else {
      var (encoder, bytes) = (NF4Encoder(), [UInt8]())
      for piece in rows.pieces {
        let values = try rows.decoded(piece)
        values.withUnsafeBufferPointer { encoder.append($0) { bytes += $0 } }
      }
      encoder.finish { bytes += $0 }
      (codes, absmax) = (bytes, DoubleQuantizedAbsmax(encoder.absmax))
      (errorRatio, relativeError) = (1, 0)
      return
    }
    let perRow = width / NF4Encoder.blockLength
    let nearest = try DoubleQuantizedAbsmax(
      rows.collect(perRow: perRow) { values, count, target in
        for block in 0..<count * perRow { target[block] = Self.largest(values + block * NF4Encoder.blockLength) }
      })
    var chosen = nearest
    if rounding != .nearest, let statistics {
      chosen = try DoubleQuantizedAbsmax(
        rows.collect(perRow: perRow) { values, count, target in
          sl_search_absmax(values, Int64(count * width), Int64(width), statistics.moments, target)
        })
    }
    let (scales, nearestScales) = (chosen.decoded, nearest.decoded)
    let isNearest = rounding == .nearest || statistics == nil
    // The triangle is read once for each piece.
    let pieces = compensation == nil ? rows.pieces : rows.pieces(atLeast: 16)
    let sums = PieceSums(pieces.count)
    var bytes = [UInt8](repeating: 0, count: rows.count * width / 2)
    try bytes.withUnsafeMutableBufferPointer { bytes in
      nonisolated(unsafe) let target = bytes
      try parallel(tasks: pieces.count) { task in
        let piece = pieces[task]
        let values = try rows.decoded(piece)
        guard let codes = target.baseAddress.map({ $0 + piece.lowerBound * width / 2 }) else { return }
        let count = Int64(values.count)
        let own = Array(scales[piece.lowerBound * perRow..<piece.upperBound * perRow])
        var loss: Double?
        if isNearest {
          // With the absmax before it is quantized itself, as bitsandbytes does.
          var unused = [Float](repeating: 0, count: piece.count * perRow)
          sl_quantize_nf4(values, count, codes, &unused)
        } else if let compensation {
          loss = sl_compensate_nf4(
            Int64(piece.count), Int64(width), values, compensation.order, compensation.factor, own, codes)
        } else {
          sl_quantize_nf4_to(values, count, own, codes)
        }
        var errors = [Float](repeating: 0, count: values.count)
        sl_decode_nf4(codes, own, Int64(NF4Encoder.blockLength), 0, count, SL_ROUND_NOT, &errors)
        for index in errors.indices { errors[index] -= values[index] }
        sums.add(task, squares: Self.squares(values), errors: Self.squares(errors))
        guard !isNearest, let statistics else { return }
        let after = loss ?? statistics.loss(errors, compensation)
        var (other, unused) = ([UInt8](repeating: 0, count: values.count / 2), own)
        sl_quantize_nf4(values, count, &other, &unused)
        sl_decode_nf4(
          other, Array(nearestScales[piece.lowerBound * perRow..<piece.upperBound * perRow]),
          Int64(NF4Encoder.blockLength), 0, count, SL_ROUND_NOT, &errors)
        for index in errors.indices { errors[index] -= values[index] }
        sums.add(task, before: statistics.loss(errors, compensation), after: after)
      }
    }
    codes = bytes
    absmax = chosen
    let total = sums.total
    guard total.after.isFinite, total.before.isFinite else { throw Compensation.noMemory }
    errorRatio = isNearest || !(total.before > 0) ? 1 : total.after / total.before
    relativeError = total.squares > 0 ? total.errors / total.squares : 0
  }

  private static func largest(_ block: UnsafePointer<Float>) -> Float {
    var largest: Float = 0
    for index in 0..<NF4Encoder.blockLength { largest = max(largest, abs(block[index])) }
    return largest
  }

  private static func squares(_ values: [Float]) -> Double {
    var sums = SIMD16<Float>(repeating: 0)
    var total = 0.0
    for start in stride(from: 0, to: values.count - values.count % 16, by: 16) {
      let part = SIMD16<Float>(values[start..<start + 16])
      sums += part * part
    }
    for lane in 0..<16 { total += Double(sums[lane]) }
    return total
  }
}

/// Sums of pieces that threads work on, each its own.
private final class PieceSums: @unchecked Sendable {
  struct Sum {
    var squares = 0.0, errors = 0.0, before = 0.0, after = 0.0
  }
  private let sums: UnsafeMutableBufferPointer<Sum>

  init(_ count: Int) {
    sums = .allocate(capacity: count)
    sums.initialize(repeating: Sum())
  }

  deinit { sums.deallocate() }

  func add(_ piece: Int, squares: Double = 0, errors: Double = 0, before: Double = 0, after: Double = 0) {
    sums[piece].squares += squares
    sums[piece].errors += errors
    sums[piece].before += before
    sums[piece].after += after
  }

  var total: Sum {
    sums.reduce(into: Sum()) {
      $0.squares += $1.squares
      $0.errors += $1.errors
      $0.before += $1.before
      $0.after += $1.after
    }
  }
}
