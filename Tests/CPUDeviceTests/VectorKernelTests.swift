import CPUKernels
import Foundation
import Testing

/// Copies, scaling, bias, norms, dropout and the optimizer.
@Suite struct VectorKernelTests {
  @Test func copiesRoundAndRespectStrides() {
    var random = SeededGenerator(1)
    let values = random.floats(7 * 50, scale: 100) + [.infinity, -.infinity, .nan, 0]
    let source = Elements(values, SL_F32)
    let narrow = Elements(zeros: 7 * 40, SL_BF16)
    sl_copy(7, 33, source.pointer, SL_F32, 50, narrow.pointer, SL_BF16, 40)
    let wide = Elements(zeros: 7 * 33, SL_F32)
    sl_copy(7, 33, narrow.pointer, SL_BF16, 40, wide.pointer, SL_F32, 33)
    for row in 0..<7 {
      for column in 0..<33 {
        let rounded = Float(bitPattern: UInt32(roundedToBFloat16(values[row * 50 + column])) << 16)
        #expect(narrow[row * 40 + column] == rounded && wide[row * 33 + column] == rounded)
      }
      #expect(narrow[row * 40 + 33] == 0, "nothing is written past the columns")
    }
    let special = Elements(zeros: 4, SL_BF16)
    sl_copy(1, 4, source.at(350), SL_F32, 4, special.pointer, SL_BF16, 4)
    #expect(special[0] == .infinity && special[1] == -.infinity && special[2].isNaN && special[3] == 0)
  }

  @Test(arguments: [(1, 1, 1), (3, 130, 5), (300, 64, 16), (129, 1000, 3), (9, 257, 40)])
  func lowRankProductsAreAdded(rows: Int, columns: Int, rank: Int) {
    var random = SeededGenerator(UInt64(rows))
    let (b, a) = (Elements(random.floats(rows * rank), SL_F32), Elements(random.floats(rank * columns), SL_F32))
    let before = random.floats(rows * columns, scale: 100)
    let out = Elements(before, SL_F32)
    sl_add_low_rank(Int64(rows), Int64(columns), Int64(rank), -1.5, b.float, a.float, out.float)
    for row in 0..<rows {
      for column in 0..<columns {
        let product = (0..<rank).reduce(0.0) {
          $0 + Double(b[row * rank + $1]) * Double(a[$1 * columns + column])
        }
        let expected = Double(before[row * columns + column]) - 1.5 * product
        // Half a unit of the sum, and what the product's terms round by.
        let bound = abs(expected) * 6.1e-8 + Double(rank) * 3e-7
        #expect(abs(Double(out[row * columns + column]) - expected) <= bound)
      }
    }
  }

  @Test func scaleBiasAndNorm() {
    var random = SeededGenerator(2)
    let count = 100_003
    let x = Elements(random.floats(count), SL_F32)
    let y = Elements(zeros: count, SL_F32)
    sl_scale(Int64(count), x.float, -2.5, y.pointer, SL_F32)
    #expect(y.floats == x.floats.map { $0 * -2.5 })
    let expected = x.doubles.reduce(0) { $0 + $1 * $1 }
    var norms: [Double] = []
    defer { sl_set_thread_count(0) }
    for threads in [1, 2, 4] {
      sl_set_thread_count(Int32(threads))
      norms.append(sl_squared_norm(Int64(count), x.float))
    }
    #expect(abs(norms[0] - expected) < 1e-9 * expected && norms[0] == norms[1] && norms[0] == norms[2])
    x.float[77] = .nan
    #expect(!sl_squared_norm(Int64(count), x.float).isFinite)
    for dtype in [SL_F32, SL_BF16] {
      let bias = Elements(random.floats(20), SL_F32)
      let before = Elements(random.floats(5 * 24), dtype)
      let after = Elements(before.floats, dtype)
      sl_add_bias(5, 20, bias.float, after.pointer, dtype, 24)
      for row in 0..<5 {
        for column in 0..<24 {
          let sum = before[row * 24 + column] + (column < 20 ? bias[column] : 0)
          #expect(abs(after[row * 24 + column] - sum) <= (dtype == SL_BF16 ? 0.01 : 1e-6))
        }
      }
    }
  }

  @Test func dropoutDropsItsShareAndScalesTheRest() {
    let (rows, columns) = (300, 200)
    func drop(_ stream: UInt64) -> sl_drop { sl_drop(probability: 0.25, seed: 42, stream: stream, first_row: 0) }
    for dtype in [SL_F32, SL_BF16] {
      let x = Elements([Float](repeating: 1, count: rows * columns), dtype)
      let y = Elements(zeros: rows * columns, dtype)
      sl_dropout(Int64(rows), Int64(columns), x.pointer, 200, y.pointer, 200, dtype, drop(7))
      let kept = y.floats.filter { $0 != 0 }
      #expect(abs(Double(kept.count) / 60_000 - 0.75) < 0.01)
      #expect(kept.allSatisfy { abs($0 - 4.0 / 3) < 0.01 })
      let again = Elements(zeros: rows * columns, dtype)
      sl_dropout(Int64(rows), Int64(columns), x.pointer, 200, again.pointer, 200, dtype, drop(7))
      #expect(again.floats == y.floats, "the same key drops the same elements")
      sl_dropout(Int64(rows), Int64(columns), x.pointer, 200, again.pointer, 200, dtype, drop(8))
      #expect(again.floats != y.floats, "another stream drops others")
      let gradient = Elements([Float](repeating: 1, count: rows * columns), SL_F32)
      let dx = Elements(zeros: rows * columns, dtype)
      sl_dropout_backward(Int64(rows), Int64(columns), gradient.float, 200, dx.pointer, 200, dtype, drop(7))
      #expect(dx.floats == y.floats, "the gradient passes where the input passed")
    }
  }

  /// Odd widths, so that rows begin in the middle of four numbers; counters beyond 32 bits; every processor's code.
  @Test func dropoutKeepsWhatPhiloxDecides() {
    var random = SeededGenerator(UInt64.random(in: 0..<1 << 48))
    for (rows, columns, firstRow) in [(7, 1, 3), (5, 67, 0), (3, 1501, 1 << 24), (2, 64, 5), (9, 130, 1)] {
      let drop = sl_drop(
        probability: Float.random(in: 0.05..<0.9, using: &random), seed: UInt64(random.next() >> 8) << 20 | 77,
        stream: UInt64(random.next()), first_row: Int64(firstRow))
      let x = Elements(random.floats(rows * columns).map { $0 + 2 }, SL_F32)
      let factor = 1 / (1 - drop.probability)
      let factors = (0..<rows * columns).map { at in
        philox(UInt64((firstRow + at / columns) * columns + at % columns), drop.stream, drop.seed)
          < UInt32(Double(drop.probability) * 4_294_967_296) ? 0 : factor
      }
      onEachPath { path in
        let y = Elements(zeros: rows * columns, SL_F32)
        let (r, c) = (Int64(rows), Int64(columns))
        sl_dropout(r, c, x.pointer, c, y.pointer, c, SL_F32, drop)
        #expect(y.floats == zip(x.floats, factors).map { $0 * $1 }, "\(path), \(rows) × \(columns)")
        let (kept, rest) = (Elements(zeros: rows * columns, SL_F32), Elements(zeros: rows * columns, SL_F32))
        sl_dropout_split(r, c, x.pointer, c, kept.pointer, c, rest.pointer, c, SL_F32, drop)
        #expect(kept.floats == y.floats && rest.floats == zip(x.floats, y.floats).map { $0 - $1 })
        let sum = Elements(zeros: rows * columns, SL_F32)
        sl_dropout_join(r, c, x.float, c, x.float, c, sum.pointer, c, SL_F32, 0, drop)
        #expect(zip(sum.floats, x.floats).allSatisfy { abs($0 - $1) < 1e-4 }, "k · x + (1 - k) · x")
      }
    }
  }

  @Test func adamWMatchesItsDefinition() {
    let count = 20_001
    var random = SeededGenerator(3)
    let w = Elements(random.floats(count), SL_F32)
    let m = Elements(zeros: count, SL_F32)
    let v = Elements(zeros: count, SL_F32)
    var (wd, md, vd) = (w.doubles, m.doubles, v.doubles)
    let (rate, beta1, beta2, epsilon, decay, scale) = (1e-2, 0.9, 0.999, 1e-8, 0.1, 0.5)
    for step in 1...5 {
      let g = Elements(random.floats(count), SL_F32)
      let (c1, c2) = (1 - pow(beta1, Double(step)), 1 - pow(beta2, Double(step)))
      sl_adamw(
        Int64(count), w.float, g.float, m.float, v.float, Float(rate), beta1, beta2, Float(epsilon),
        Float(decay), Float(scale), c1, c2)
      for (i, gradient) in g.doubles.enumerated() {
        let x = gradient * scale
        md[i] = beta1 * md[i] + (1 - beta1) * x
        vd[i] = beta2 * vd[i] + (1 - beta2) * x * x
        wd[i] -= rate * decay * wd[i]
        wd[i] -= rate * (md[i] / c1) / ((vd[i] / c2).squareRoot() + epsilon)
      }
    }
    #expect(relativeError(w.doubles, wd) < 1e-5)
    #expect(relativeError(m.doubles, md) < 1e-5 && relativeError(v.doubles, vd) < 1e-5)
  }
}
