import CPUDevice
import ModelFiles

/// What a matrix loses in several formats: Σ over elements of the squared error times its column's weight.
struct TypeErrors {
  /// In NF4, each element at the nearest.
  let nf4: Double
  private let losses: [StorageFormat: Double]

  subscript(_ format: StorageFormat) -> Double? { losses[format] }

  /// - Parameter weights: of each column.
  init(_ rows: StackedRows, _ formats: Set<StorageFormat>, _ weights: [Float]) throws {
    let formats = formats.sorted { $0.rawValue < $1.rawValue }
    let decoder = NF4Decoder(try NF4Matrix(rows, .nearest, nil))
    let stored = rows.parts.count == 1 ? rows.parts[0].format : nil
    let pieces = rows.pieces
    let width = rows.width
    let count = formats.count + 1
    var sums = [Double](repeating: 0, count: pieces.count * count)
    try sums.withUnsafeMutableBufferPointer { sums in
      // Tasks write sums of their own only.
      nonisolated(unsafe) let sums = sums
      try parallel(tasks: pieces.count) { task in
        let values = try rows.decoded(pieces[task])
        var others = values
        let first = pieces[task].lowerBound * width
        others.withUnsafeMutableBufferPointer {
          if let base = $0.baseAddress { decoder.decode(first..<first + values.count, into: base) }
        }
        sums[task * count] = Self.loss(values, others, weights)
        for (index, format) in formats.enumerated() {
          // What is stored so already is copied.
          if format == stored { continue }
          try format.roundTrip(values, into: &others, of: rows.name, path: rows.path)
          sums[task * count + 1 + index] = Self.loss(values, others, weights)
        }
      }
    }
    func total(_ place: Int) -> Double { stride(from: place, to: sums.count, by: count).reduce(0) { $0 + sums[$1] } }
    nf4 = total(0)
    losses = Dictionary(uniqueKeysWithValues: formats.enumerated().map { ($1, total(1 + $0)) })
  }

  private static func loss(_ values: [Float], _ others: [Float], _ weights: [Float]) -> Double {
    var total = 0.0
    for row in stride(from: 0, to: values.count, by: weights.count) {
      var sum: Float = 0
      for column in weights.indices {
        let error = values[row + column] - others[row + column]
        sum += weights[column] * error * error
      }
      total += Double(sum)
    }
    return total
  }
}
