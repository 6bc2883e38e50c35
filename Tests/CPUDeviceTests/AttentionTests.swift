import CPUKernels
import Glibc
import Testing

/// Documents (query count, key count) and the shape of a layer.
struct AttentionCase: Sendable, CustomTestStringConvertible {
  var documents: [(q: Int, kv: Int)]
  var heads: Int, kvHeads: Int, headDim: Int
  var window = 0
  var scores: Float = 2

  var testDescription: String {
    "\(documents.map { $0.q == $0.kv ? "\($0.q)" : "\($0.q)/\($0.kv)" }) \(heads)/\(kvHeads)x\(headDim) window \(window)"
  }
}

/// Inputs of a case in one fused buffer of queries, keys and values, with gaps, as the kernels get them.
private struct AttentionRun {
  let shape: sl_attention_shape
  let spans: [sl_span]
  let reference: AttentionReference
  let qRows: Int, kvRows: Int, stride: Int, oStride: Int
  let fused: Elements, dO: Elements
  let q: [Double], k: [Double], v: [Double], upstream: [Double]

  init(_ test: AttentionCase, _ dtype: sl_dtype) {
    var random = SeededGenerator(UInt64(test.headDim * 1000 + test.documents.count))
    let scale = 1 / Float(test.headDim).squareRoot()
    shape = sl_attention_shape(
      heads: Int64(test.heads), kv_heads: Int64(test.kvHeads), head_dim: Int64(test.headDim),
      window: Int64(test.window), scale: scale, dtype: dtype)
    var spans = [sl_span](), qRows = 0, kvRows = 0
    for (q, kv) in test.documents {
      spans.append(
        sl_span(q_begin: Int64(qRows), q_count: Int64(q), kv_begin: Int64(kvRows), kv_count: Int64(kv)))
      (qRows, kvRows) = (qRows + q, kvRows + kv)
    }
    self.spans = spans
    (self.qRows, self.kvRows) = (qRows, kvRows)
    reference = AttentionReference(
      heads: test.heads, kvHeads: test.kvHeads, headDim: test.headDim, window: test.window, scale: Double(scale),
      spans: spans)
    let qWidth = test.heads * test.headDim, kvWidth = test.kvHeads * test.headDim
    stride = qWidth + 2 * kvWidth + 6
    oStride = qWidth + 2
    let rows = max(qRows, kvRows)
    fused = Elements(random.floats(rows * stride, scale: test.scores), dtype)
    dO = Elements(random.floats(qRows * oStride), dtype)
    func slice(_ source: Elements, _ stride: Int, _ first: Int, _ width: Int, _ rows: Int) -> [Double] {
      (0..<rows).flatMap { row in (0..<width).map { Double(source[row * stride + first + $0]) } }
    }
    q = slice(fused, stride, 0, qWidth, qRows)
    k = slice(fused, stride, qWidth, kvWidth, kvRows)
    v = slice(fused, stride, qWidth + kvWidth, kvWidth, kvRows)
    upstream = slice(dO, oStride, 0, qWidth, qRows)
  }

  var qWidth: Int { Int(shape.heads * shape.head_dim) }
  var kvWidth: Int { Int(shape.kv_heads * shape.head_dim) }

  /// -> o at its stride, lse [heads][qRows].
  func forward() -> (o: Elements, lse: [Float]) {
    let o = Elements([Float](repeating: 7, count: qRows * oStride), shape.dtype)
    var lse = [Float](repeating: 0, count: Int(shape.heads) * qRows)
    var shape = shape
    sl_attention_forward(
      &shape, spans, Int64(spans.count), fused.pointer, Int64(stride), fused.at(qWidth), Int64(stride),
      fused.at(qWidth + kvWidth), Int64(stride), o.pointer, Int64(oStride), &lse, Int64(qRows))
    return (o, lse)
  }

  /// -> gradients laid out as `fused`.
  func backward(o: Elements, lse: [Float]) -> Elements {
    let gradient = Elements([Float](repeating: 7, count: fused.count), shape.dtype)
    var shape = shape
    let bytes = sl_attention_backward_workspace(&shape, spans, Int64(spans.count))
    let workspace = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    defer { workspace.deallocate() }
    memset(workspace, 0xff, bytes)  // NaN wherever the kernel reads what it has not written
    sl_attention_backward(
      &shape, spans, Int64(spans.count), fused.pointer, Int64(stride), fused.at(qWidth), Int64(stride),
      fused.at(qWidth + kvWidth), Int64(stride), o.pointer, Int64(oStride), lse, Int64(qRows), dO.pointer,
      Int64(oStride), gradient.pointer, Int64(stride), gradient.at(qWidth), Int64(stride),
      gradient.at(qWidth + kvWidth), Int64(stride), workspace)
    return gradient
  }

  func part(_ source: Elements, _ stride: Int, _ first: Int, _ width: Int, _ rows: Int) -> [Double] {
    (0..<rows).flatMap { row in (0..<width).map { Double(source[row * stride + first + $0]) } }
  }

  /// What lies between the rows must stay as it was.
  func gapsAreUntouched(_ source: Elements, _ stride: Int, _ width: Int, _ rows: Int) -> Bool {
    (0..<rows).allSatisfy { row in (width..<stride).allSatisfy { source[row * stride + $0] == 7 } }
  }
}

private func square(_ counts: Int...) -> [(q: Int, kv: Int)] { counts.map { ($0, $0) } }

extension KernelStateTests {
  /// Attention against float64, on each instruction set, for any count of threads.
  @Suite struct AttentionTests {
    static let cases: [AttentionCase] = [
      AttentionCase(documents: square(1), heads: 1, kvHeads: 1, headDim: 16),
      AttentionCase(documents: square(17), heads: 3, kvHeads: 1, headDim: 64),
      AttentionCase(documents: square(130), heads: 6, kvHeads: 2, headDim: 64),
      AttentionCase(documents: square(65, 1, 16, 47), heads: 9, kvHeads: 3, headDim: 64),
      AttentionCase(documents: square(70, 33), heads: 4, kvHeads: 4, headDim: 80),
      AttentionCase(documents: square(100), heads: 4, kvHeads: 2, headDim: 128),
      AttentionCase(documents: square(50), heads: 8, kvHeads: 1, headDim: 96),
      AttentionCase(documents: square(40), heads: 20, kvHeads: 1, headDim: 32),
      AttentionCase(documents: square(37), heads: 2, kvHeads: 1, headDim: 20),
      AttentionCase(documents: square(20), heads: 1, kvHeads: 1, headDim: 256),
      AttentionCase(documents: [(5, 90), (40, 64), (33, 200)], heads: 3, kvHeads: 1, headDim: 64),
      AttentionCase(documents: square(200, 90), heads: 3, kvHeads: 1, headDim: 64, window: 40),
      AttentionCase(documents: [(30, 170)], heads: 2, kvHeads: 2, headDim: 64, window: 7),
      AttentionCase(documents: square(150), heads: 3, kvHeads: 1, headDim: 64, scores: 12),
      AttentionCase(documents: [(1, 1000)], heads: 9, kvHeads: 3, headDim: 64),
      AttentionCase(documents: [(1, 5), (4, 257), (1, 600), (0, 0)], heads: 3, kvHeads: 1, headDim: 64),
      AttentionCase(documents: [(1, 300)], heads: 16, kvHeads: 1, headDim: 128),
      AttentionCase(documents: [(2, 90), (1, 17)], heads: 4, kvHeads: 2, headDim: 80),
      AttentionCase(documents: [(1, 40)], heads: 2, kvHeads: 2, headDim: 20),
      AttentionCase(documents: [(3, 700), (1, 250)], heads: 3, kvHeads: 1, headDim: 64, window: 100),
      AttentionCase(documents: [(0, 0), (10, 10), (0, 5)], heads: 1, kvHeads: 1, headDim: 64),
    ]

    @Test(arguments: cases)
    func matchesReference(_ test: AttentionCase) {
      for dtype in bothTypes {
        let run = AttentionRun(test, dtype)
        let (expected, expectedLSE) = run.reference.forward(q: run.q, k: run.k, v: run.v, rows: run.qRows)
        let gradients = run.reference.backward(q: run.q, k: run.k, v: run.v, dO: run.upstream)
        onEachPath { path in
          let (o, lse) = run.forward()
          let note: Comment = "path \(path), \(dtype == SL_F32 ? "fp32" : "bf16")"
          #expect(
            relativeError(run.part(o, run.oStride, 0, run.qWidth, run.qRows), expected)
              < (dtype == SL_F32 ? test.scores > 4 ? 5e-5 : 3e-6 : 8e-3), note)
          #expect(relativeError(lse.map(Double.init), expectedLSE) < (dtype == SL_F32 ? 1e-6 : 1e-5), note)
          #expect(run.gapsAreUntouched(o, run.oStride, run.qWidth, run.qRows), note)
          let gradient = run.backward(o: o, lse: lse)
          let limit = dtype == SL_F32 ? test.scores > 4 ? 2e-4 : 2e-5 : 2e-2
          let (qWidth, kvWidth, stride) = (run.qWidth, run.kvWidth, run.stride)
          #expect(
            relativeError(run.part(gradient, stride, 0, qWidth, run.qRows), gradients.q, floor: 0.1) < limit, note)
          #expect(
            relativeError(run.part(gradient, stride, qWidth, kvWidth, run.kvRows), gradients.k, floor: 0.1) < limit,
            note)
          #expect(
            relativeError(run.part(gradient, stride, qWidth + kvWidth, kvWidth, run.kvRows), gradients.v) < limit, note)
          if run.qRows == run.kvRows {
            #expect(run.gapsAreUntouched(gradient, stride, qWidth + 2 * kvWidth, run.qRows), note)
          }
        }
      }
    }

    @Test func referenceGradientsAreFiniteDifferences() {
      let test = AttentionCase(documents: [(4, 4), (3, 6)], heads: 2, kvHeads: 1, headDim: 4, window: 3)
      let run = AttentionRun(test, SL_F32)
      func loss(_ q: [Double], _ k: [Double], _ v: [Double]) -> Double {
        zip(run.reference.forward(q: q, k: k, v: v, rows: run.qRows).o, run.upstream).reduce(0) { $0 + $1.0 * $1.1 }
      }
      func differences(_ x: [Double], _ f: ([Double]) -> Double) -> [Double] {
        x.indices.map { i in
          var (up, down) = (x, x)
          up[i] += 1e-5
          down[i] -= 1e-5
          return (f(up) - f(down)) / 2e-5
        }
      }
      let gradients = run.reference.backward(q: run.q, k: run.k, v: run.v, dO: run.upstream)
      #expect(relativeError(differences(run.q) { loss($0, run.k, run.v) }, gradients.q) < 1e-7)
      #expect(relativeError(differences(run.k) { loss(run.q, $0, run.v) }, gradients.k) < 1e-7)
      #expect(relativeError(differences(run.v) { loss(run.q, run.k, $0) }, gradients.v) < 1e-7)
    }

    @Test(arguments: [SL_F32.rawValue, SL_BF16.rawValue])
    func sameBitsForAnyThreadCount(_ dtype: UInt32) {
      let test = AttentionCase(documents: square(300, 20, 700), heads: 6, kvHeads: 2, headDim: 64)
      let run = AttentionRun(test, sl_dtype(rawValue: dtype))
      defer { sl_set_thread_count(0) }
      var first: ([Float], [Float], [Float])?
      for threads: Int32 in [1, 2, 3, 7] {
        sl_set_thread_count(threads)
        let (o, lse) = run.forward()
        let result = (o.floats, lse, run.backward(o: o, lse: lse).floats)
        if let first {
          #expect(result == first, "\(threads) threads")
        } else {
          first = result
        }
      }
    }

    @Test func noLogSumExpIsNeededForInference() {
      let run = AttentionRun(AttentionCase(documents: square(33), heads: 2, kvHeads: 1, headDim: 64), SL_F32)
      let o = Elements(zeros: run.qRows * run.oStride, SL_F32)
      var shape = run.shape
      sl_attention_forward(
        &shape, run.spans, 1, run.fused.pointer, Int64(run.stride), run.fused.at(run.qWidth), Int64(run.stride),
        run.fused.at(run.qWidth + run.kvWidth), Int64(run.stride), o.pointer, Int64(run.oStride), nil, 0)
      #expect(o.floats[0..<run.qWidth] == run.forward().o.floats[0..<run.qWidth])
    }

    @Test func notANumberShows() {
      onEachPath { path in
        let run = AttentionRun(AttentionCase(documents: square(40), heads: 1, kvHeads: 1, headDim: 64), SL_F32)
        run.fused.float[20 * run.stride + 5] = .nan  // query 20
        let (o, _) = run.forward()
        #expect(o[20 * run.oStride].isNaN && !o[19 * run.oStride].isNaN && !o[21 * run.oStride].isNaN, "path \(path)")
      }
    }
  }
}
