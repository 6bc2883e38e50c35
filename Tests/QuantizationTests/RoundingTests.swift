import CBlockFormats
import ModelFiles
import TestSupport
import Testing

@testable import Quantization

@Suite struct RoundingTests {
  /// A matrix [48, 128] in a checkpoint of its own, and inputs that go together.
  struct Case {
    let folder: TemporaryFolder
    let rows: StackedRows
    let statistics: InputStatistics
    static let width = 128

    init() throws {
      folder = try TemporaryFolder()
      try TinyModel(
        changing: ["hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1],
        seed: .random(in: 0...UInt64.max)
      ).write(to: folder)
      let checkpoint = try Checkpoint.open(path: folder.path)
      rows = StackedRows([try checkpoint.tensor("model.layers.0.mlp.down_proj.weight")], name: "down")
      var statistics = InputStatistics(inputs: Self.width, correlates: true)
      let mixing = (0..<Self.width * 8).map { _ in Float.random(in: -1...1) }
      for _ in 0..<300 {
        let hidden = (0..<8).map { _ in Float.random(in: -1...1) }
        let x = (0..<Self.width).map { column in
          (0..<8).reduce(Float.random(in: -0.3...0.3)) { $0 + hidden[$1] * mixing[column * 8 + $1] }
        }
        for i in 0..<Self.width {
          statistics.moments[i] += x[i] * x[i]
          for j in 0..<Self.width { statistics.correlations[i * Self.width + j] += x[i] * x[j] }
        }
      }
      self.statistics = statistics
    }

    /// Σ eᵀ (H + damping) e over the rows, in double.
    func loss(_ matrix: NF4Matrix, damping: Double) throws -> Double {
      let values = try rows.parts[0].decoded()
      var decoded = [Float](repeating: 0, count: values.count)
      sl_decode_nf4(matrix.codes, matrix.absmax.decoded, 64, 0, Int64(values.count), SL_ROUND_NOT, &decoded)
      var total = 0.0
      for row in 0..<rows.count {
        let e = (0..<Self.width).map { Double(decoded[row * Self.width + $0] - values[row * Self.width + $0]) }
        for i in 0..<Self.width {
          for j in 0..<Self.width { total += e[i] * Double(statistics.correlations[i * Self.width + j]) * e[j] }
          total += damping * e[i] * e[i]
        }
      }
      return total
    }

    /// Σ of moments · e², in double.
    func diagonalLoss(_ matrix: NF4Matrix) throws -> Double {
      let values = try rows.parts[0].decoded()
      var decoded = [Float](repeating: 0, count: values.count)
      sl_decode_nf4(matrix.codes, matrix.absmax.decoded, 64, 0, Int64(values.count), SL_ROUND_NOT, &decoded)
      return values.indices.reduce(0.0) {
        let e = Double(decoded[$1] - values[$1])
        return $0 + Double(statistics.moments[$1 % Self.width]) * e * e
      }
    }
  }

  @Test func eachRoundingLosesLess() throws {
    let test = try Case()
    let nearest = try NF4Matrix(test.rows, .nearest, test.statistics)
    let searched = try NF4Matrix(test.rows, .searched, test.statistics)
    let compensation = try #require(try Compensation(test.statistics))
    let compensated = try NF4Matrix(test.rows, .compensated, test.statistics, compensation)
    #expect(nearest.errorRatio == 1)
    let ratio = try test.diagonalLoss(searched) / test.diagonalLoss(nearest)
    #expect(ratio < 0.97 && abs(searched.errorRatio / ratio - 1) < 1e-3)
    let damping = compensation.damping
    let gain = try test.loss(compensated, damping: damping) / test.loss(nearest, damping: damping)
    #expect(gain < 0.7 && abs(compensated.errorRatio / gain - 1) < 1e-2)
    #expect(try test.loss(compensated, damping: 0) < 0.6 * test.loss(nearest, damping: 0))
    #expect(compensated.codes != nearest.codes && searched.codes.count == 64 * 64)
  }

  @Test func theNearestIsWhatTheEncoderWrites() throws {
    let test = try Case()
    let matrix = try NF4Matrix(test.rows, .nearest, nil)
    var (encoder, codes) = (NF4Encoder(), [UInt8]())
    try test.rows.parts[0].decoded().withUnsafeBufferPointer { encoder.append($0) { codes += $0 } }
    #expect(matrix.codes == codes && matrix.absmax == DoubleQuantizedAbsmax(encoder.absmax))
  }

  @Test func theTriangleIsThatOfTheInverse() throws {
    let test = try Case()
    let compensation = try #require(try Compensation(test.statistics))
    let n = Case.width
    // Rᵀ R (H + damping) = 1.
    func h(_ i: Int, _ j: Int) -> Double {
      let (a, b) = (Int(compensation.order[i]), Int(compensation.order[j]))
      return Double(test.statistics.correlations[a * n + b]) + (i == j ? compensation.damping : 0)
    }
    for i in stride(from: 0, to: n, by: 17) {
      let row = (0..<n).map { j in
        (0...min(i, j)).reduce(0.0) {
          $0 + Double(compensation.factor[$1 * n + i]) * Double(compensation.factor[$1 * n + j])
        }
      }
      for j in stride(from: 0, to: n, by: 13) {
        let product = (0..<n).reduce(0.0) { $0 + row[$1] * h($1, j) }
        #expect(abs(product - (i == j ? 1 : 0)) < 1e-3)
      }
    }
  }

  @Test func whatWasNeverReadGoesToTheNearest() throws {
    let test = try Case()
    let empty = InputStatistics(inputs: Case.width, correlates: true)
    if try Compensation(empty) != nil { Issue.record("there is nothing to compensate by") }
    let matrix = try NF4Matrix(test.rows, .compensated, empty)
    #expect(matrix.codes.count == 64 * 64)
  }
}
