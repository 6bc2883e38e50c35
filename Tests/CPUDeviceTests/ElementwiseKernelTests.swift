import CPUKernels
import Glibc
import Testing

extension KernelStateTests {
  /// Cross entropy, SwiGLU, RMSNorm and RoPE against float64, on each instruction set.
  @Suite struct ElementwiseKernelTests {
    // MARK: Cross entropy

    static func crossEntropy(_ logits: [Double], _ target: Int) -> (loss: Double, gradient: [Double]) {
      let highest = logits.max() ?? 0
      let sum = logits.reduce(0) { $0 + exp($1 - highest) }
      let lse = highest + log(sum)
      var gradient = logits.map { exp($0 - lse) }
      gradient[target] -= 1
      return (lse - logits[target], gradient)
    }

    @Test(arguments: [1, 15, 50, 1000, 4133])
    func crossEntropyMatchesReference(vocabulary: Int) {
      var random = SeededGenerator(UInt64(vocabulary))
      let rows = 7
      let stride = vocabulary + 3
      let logits = random.floats(rows * stride, scale: 20)
      let targets: [Int32] = (0..<rows).map { $0 == 2 ? -1 : Int32(($0 * 31) % vocabulary) }
      var loss = 0.0
      var gradient = [Double](repeating: 0, count: rows * vocabulary)
      for row in 0..<rows where targets[row] >= 0 {
        let x = (0..<vocabulary).map { Double(logits[row * stride + $0]) }
        let reference = Self.crossEntropy(x, Int(targets[row]))
        loss += reference.loss
        for i in 0..<vocabulary { gradient[row * vocabulary + i] = reference.gradient[i] * 0.25 }
      }
      onEachPath { path in
        for dtype in bothTypes {
          let out = Elements(random.floats(rows * vocabulary), dtype)
          var sum = 100.0
          var rowLosses = [Float](repeating: 0, count: rows)
          sl_cross_entropy(
            Int64(rows), Int64(vocabulary), logits, Int64(stride), targets, 0.25, &sum, out.pointer, dtype,
            Int64(vocabulary), &rowLosses)
          #expect(((sum - 100 - loss) / max(loss, 1)).magnitude < 1e-6, "path \(path)")
          #expect(rowLosses[2] == 0)
          #expect(relativeError(out.doubles, gradient) < (dtype == SL_F32 ? 1e-6 : 4e-3), "path \(path)")
        }
        let inPlace = Elements(logits, SL_F32)
        var sum = 0.0
        sl_cross_entropy(
          Int64(rows), Int64(vocabulary), inPlace.float, Int64(stride), targets, 0.25, &sum, inPlace.pointer, SL_F32,
          Int64(stride), nil)
        let dense = (0..<rows).flatMap { row in (0..<vocabulary).map { inPlace.doubles[row * stride + $0] } }
        #expect(relativeError(dense, gradient) < 1e-6, "path \(path)")
      }
    }

    @Test func crossEntropyIsTheSameForAnyThreadCount() {
      var random = SeededGenerator(5)
      let logits = random.floats(1500 * 40, scale: 5)
      let targets = (0..<1500).map { Int32($0 % 40) }
      var sums: Set<Double> = []
      defer { sl_set_thread_count(0) }
      for threads: Int32 in [1, 2, 3] {
        sl_set_thread_count(threads)
        var sum = 0.0
        sl_cross_entropy(1500, 40, logits, 40, targets, 1, &sum, nil, SL_F32, 0, nil)
        sums.insert(sum)
      }
      #expect(sums.count == 1)
    }

    @Test func crossEntropyShowsNaN() {
      onEachPath { path in
        var logits = [Float](repeating: 0.5, count: 100)
        logits[77] = .nan
        var sum = 0.0
        sl_cross_entropy(1, 100, logits, 100, [3], 1, &sum, nil, SL_F32, 0, nil)
        #expect(sum.isNaN, "path \(path)")
        sum = 0
        sl_cross_entropy(1, 50, logits, 100, [50], 1, &sum, nil, SL_F32, 0, nil)
        #expect(sum.isNaN, "a target beyond the vocabulary, path \(path)")
      }
    }

    // MARK: SwiGLU

    @Test(arguments: [1, 16, 37, 4100])
    func swigluMatchesReference(width: Int) {
      var random = SeededGenerator(UInt64(width))
      let rows = 3
      let stride = 2 * width + 5
      let values = random.floats(rows * stride, scale: 12)
      let upstream = random.floats(rows * width)
      onEachPath { path in
        for dtype in bothTypes {
          let gateUp = Elements(values, dtype)
          let dAct = Elements(upstream, dtype)
          var act = [Double](), dGateUp = gateUp.doubles
          for row in 0..<rows {
            for i in 0..<width {
              let g = Double(gateUp[row * stride + i]), u = Double(gateUp[row * stride + width + i])
              let s = 1 / (1 + exp(-g)), d = Double(dAct[row * width + i])
              act.append(g * s * u)
              dGateUp[row * stride + i] = d * u * s * (1 + g * (1 - s))
              dGateUp[row * stride + width + i] = d * g * s
            }
          }
          let forward = Elements(zeros: rows * width, dtype)
          sl_swiglu_forward(
            Int64(rows), Int64(width), gateUp.pointer, gateUp.pointer + width * sl_dtype_size(dtype), Int64(stride),
            forward.pointer, Int64(width), dtype)
          #expect(relativeError(forward.doubles, act) < tolerance(dtype), "path \(path)")
          let again = Elements(zeros: rows * width, dtype)
          sl_swiglu_backward(
            Int64(rows), Int64(width), gateUp.pointer, gateUp.pointer + width * sl_dtype_size(dtype), Int64(stride),
            dAct.pointer, Int64(width), gateUp.pointer, gateUp.pointer + width * sl_dtype_size(dtype), Int64(stride),
            again.pointer, Int64(width), dtype)
          #expect(again.floats == forward.floats)
          #expect(relativeError(gateUp.doubles, dGateUp) < tolerance(dtype), "path \(path)")
        }
      }
    }

    @Test func swigluIsRightAtTheExtremes() {
      onEachPath { path in
        let gates: [Float] = [-1e30, -200, -88, 88, 200, 1e30, 0, .nan]
        let gateUp = Elements(gates + [Float](repeating: 1, count: 8), SL_F32)
        let act = Elements(zeros: 8, SL_F32)
        sl_swiglu_forward(1, 8, gateUp.pointer, gateUp.pointer + 32, 16, act.pointer, 8, SL_F32)
        #expect(act[0].magnitude < 1e-6 && act[1].magnitude < 1e-30 && act[2].magnitude < 1e-30, "path \(path)")
        #expect(act[3] == 88 && act[4] == 200 && act[5] == 1e30 && act[6] == 0 && act[7].isNaN, "path \(path)")
      }
    }

    // MARK: RMSNorm

    @Test(arguments: [1, 16, 45, 576, 9000])
    func rmsNormMatchesReference(width: Int) {
      var random = SeededGenerator(UInt64(width))
      let rows = 19
      let stride = width + 2
      let x = random.floats(rows * stride, scale: 3)
      let gamma = random.floats(width)
      let upstream = random.floats(rows * width)
      let before = random.floats(rows * width)
      onEachPath { path in
        for dtype in bothTypes {
          let dy = Elements(upstream, dtype)
          let y = Elements(zeros: rows * width, dtype), saved = Elements(zeros: rows * stride, dtype)
          var rstd = [Float](repeating: 0, count: rows)
          sl_rmsnorm_forward(
            Int64(rows), Int64(width), x, Int64(stride), gamma, 1e-5, y.pointer, Int64(width), &rstd, saved.pointer,
            Int64(stride), dtype)
          var expected = [Double](), gradient = [Double]()
          for row in 0..<rows {
            let values = (0..<width).map { Double(x[row * stride + $0]) }
            let r = 1 / sqrt(values.reduce(0) { $0 + $1 * $1 } / Double(width) + 1e-5)
            #expect((Double(rstd[row]) / r - 1).magnitude < 1e-5)
            expected += (0..<width).map { values[$0] * r * Double(gamma[$0]) }
            let hat = (0..<width).map { Double(saved[row * stride + $0]) * r }
            let g = (0..<width).map { Double(dy[row * width + $0]) * Double(gamma[$0]) }
            let mean = zip(g, hat).reduce(0) { $0 + $1.0 * $1.1 } / Double(width)
            gradient += (0..<width).map { Double(before[row * width + $0]) + r * (g[$0] - hat[$0] * mean) }
          }
          #expect(relativeError(y.doubles, expected) < tolerance(dtype), "path \(path)")
          let again = Elements(zeros: rows * width, dtype)
          sl_rmsnorm_apply(
            Int64(rows), Int64(width), saved.pointer, Int64(stride), rstd, gamma, again.pointer, Int64(width), dtype)
          #expect(relativeError(again.doubles, expected) < 2 * tolerance(dtype), "path \(path)")
          let dx = Elements(before, SL_F32), copy = Elements(zeros: rows * width, dtype)
          sl_rmsnorm_backward(
            Int64(rows), Int64(width), saved.pointer, Int64(stride), rstd, gamma, dy.pointer, Int64(width), dtype,
            dx.float, Int64(width), copy.pointer, Int64(width), dtype)
          #expect(relativeError(dx.doubles, gradient) < 1e-5, "path \(path)")
          #expect(copy.floats == Elements(dx.floats, dtype).floats)
        }
      }
    }

    // MARK: Norms of heads

    @Test(arguments: [1, 6, 16, 40, 128])
    func headNormMatchesReference(headDim: Int) {
      var random = SeededGenerator(UInt64(headDim) + 9)
      let rows = 13, heads = 3, stride = heads * headDim + 5
      let x = random.floats(rows * stride), dy = random.floats(rows * stride)
      let gamma = random.floats(headDim).map { $0 + 1 }
      onEachPath { path in
        for dtype in bothTypes {
          let input = Elements(x, dtype), y = Elements(zeros: rows * stride, dtype), gradient = Elements(dy, dtype)
          var rstd = [Float](repeating: 0, count: rows * heads)
          sl_headnorm_forward(
            Int64(rows), Int64(heads), Int64(headDim), input.pointer, Int64(stride), gamma, 1e-5, y.pointer,
            Int64(stride), &rstd, dtype)
          var expected = [Double](repeating: 0, count: rows * stride), expectedGradient = gradient.doubles
          for row in 0..<rows {
            for head in 0..<heads {
              let first = row * stride + head * headDim
              let values = (0..<headDim).map { Double(input[first + $0]) }
              let r = 1 / sqrt(values.reduce(0) { $0 + $1 * $1 } / Double(headDim) + 1e-5)
              #expect((Double(rstd[row * heads + head]) / r - 1).magnitude < 1e-5)
              let hat = values.map { $0 * r }
              let g = (0..<headDim).map { Double(gradient[first + $0]) * Double(gamma[$0]) }
              let mean = zip(g, hat).reduce(0) { $0 + $1.0 * $1.1 } / Double(headDim)
              for i in 0..<headDim {
                expected[first + i] = hat[i] * Double(gamma[i])
                expectedGradient[first + i] = r * (g[i] - hat[i] * mean)
              }
            }
          }
          #expect(relativeError(y.doubles, expected) < tolerance(dtype), "path \(path)")
          sl_headnorm_backward(
            Int64(rows), Int64(heads), Int64(headDim), input.pointer, Int64(stride), rstd, gamma, gradient.pointer,
            Int64(stride), dtype)
          #expect(relativeError(gradient.doubles, expectedGradient) < 2 * tolerance(dtype), "path \(path)")
          // In place, without statistics.
          sl_headnorm_forward(
            Int64(rows), Int64(heads), Int64(headDim), input.pointer, Int64(stride), gamma, 1e-5, input.pointer,
            Int64(stride), nil, dtype)
          for row in 0..<rows {
            for i in 0..<heads * headDim { #expect(input[row * stride + i] == y[row * stride + i]) }
          }
        }
      }
    }

    // MARK: RoPE

    @Test(arguments: [(64, 64), (80, 80), (96, 72), (16, 6)])
    func ropeMatchesReference(headDim: Int, rotaryDim: Int) {
      var random = SeededGenerator(UInt64(headDim))
      let rows = 21, heads = 3, kvHeads = 1, half = rotaryDim / 2
      let stride = (heads + 2 * kvHeads) * headDim + 4
      let values = random.floats(rows * stride)
      let bias = random.floats(5 * headDim)
      let angles = random.floats(rows * half, scale: 3)
      let cosines = angles.map { Glibc.cos($0) }, sines = angles.map { Glibc.sin($0) }
      let positions = (0..<rows).map { Int32(rows - 1 - $0) }
      onEachPath { path in
        for dtype in bothTypes {
          for useBias in [false, true] {
            let qkv = Elements(values, dtype)
            var expected = qkv.doubles
            for row in 0..<rows {
              if useBias { for i in 0..<5 * headDim { expected[row * stride + i] += Double(bias[i]) } }
              for head in 0..<heads + kvHeads {
                for i in 0..<half {
                  let c = Double(cosines[Int(positions[row]) * half + i])
                  let s = Double(sines[Int(positions[row]) * half + i])
                  let at = row * stride + head * headDim + i
                  (expected[at], expected[at + half]) = (
                    expected[at] * c - expected[at + half] * s, expected[at + half] * c + expected[at] * s
                  )
                }
              }
            }
            let original = qkv.doubles
            sl_rope(
              Int64(rows), qkv.pointer, Int64(stride), Int64(heads), Int64(kvHeads), Int64(headDim), Int64(rotaryDim),
              cosines, sines, positions, useBias ? bias : nil, 0, dtype)
            #expect(relativeError(qkv.doubles, expected) < 2 * tolerance(dtype), "path \(path)")
            if useBias { continue }
            sl_rope(
              Int64(rows), qkv.pointer, Int64(stride), Int64(heads), Int64(kvHeads), Int64(headDim), Int64(rotaryDim),
              cosines, sines, positions, nil, 1, dtype)
            #expect(relativeError(qkv.doubles, original) < 3 * tolerance(dtype), "path \(path)")
          }
        }
      }
    }
  }
}
