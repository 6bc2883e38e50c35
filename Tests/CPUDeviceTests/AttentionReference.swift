import CPUKernels
import Glibc

/// Attention in float64, straight from its definition.
struct AttentionReference {
  var heads: Int, kvHeads: Int, headDim: Int, window: Int, scale: Double
  var spans: [sl_span]

  struct Gradients { var q: [Double], k: [Double], v: [Double] }

  /// Weights of query `i` of a span, over its keys, and the log of their sum before scaling.
  private func weights(_ span: sl_span, _ i: Int, _ head: Int, _ q: [Double], _ k: [Double]) -> (
    keys: Range<Int>, p: [Double], lse: Double
  ) {
    let kvHead = head / (heads / kvHeads)
    let last = i + Int(span.kv_count - span.q_count)
    let first = window > 0 ? max(0, last - window + 1) : 0
    let qAt = ((Int(span.q_begin) + i) * heads + head) * headDim
    let scores = (first...last).map { j in
      let kAt = ((Int(span.kv_begin) + j) * kvHeads + kvHead) * headDim
      return scale * (0..<headDim).reduce(0.0) { $0 + q[qAt + $1] * k[kAt + $1] }
    }
    let highest = scores.max() ?? 0
    let sum = scores.reduce(0) { $0 + exp($1 - highest) }
    return (first..<last + 1, scores.map { exp($0 - highest) / sum }, highest + log(sum))
  }

  /// q: [rows, heads, headDim]; k, v: [rows, kvHeads, headDim] -> o as q, lse: [heads][rows].
  func forward(q: [Double], k: [Double], v: [Double], rows: Int) -> (o: [Double], lse: [Double]) {
    var o = [Double](repeating: 0, count: q.count), lse = [Double](repeating: 0, count: heads * rows)
    for span in spans {
      for head in 0..<heads {
        for i in 0..<Int(span.q_count) {
          let w = weights(span, i, head, q, k)
          let row = Int(span.q_begin) + i
          lse[head * rows + row] = w.lse
          for (j, p) in zip(w.keys, w.p) {
            let vAt = ((Int(span.kv_begin) + j) * kvHeads + head / (heads / kvHeads)) * headDim
            for x in 0..<headDim { o[(row * heads + head) * headDim + x] += p * v[vAt + x] }
          }
        }
      }
    }
    return (o, lse)
  }

  func backward(q: [Double], k: [Double], v: [Double], dO: [Double]) -> Gradients {
    var out = Gradients(
      q: [Double](repeating: 0, count: q.count), k: [Double](repeating: 0, count: k.count),
      v: [Double](repeating: 0, count: v.count))
    for span in spans {
      for head in 0..<heads {
        for i in 0..<Int(span.q_count) {
          let w = weights(span, i, head, q, k)
          let qAt = ((Int(span.q_begin) + i) * heads + head) * headDim
          let kvAt = w.keys.map { ((Int(span.kv_begin) + $0) * kvHeads + head / (heads / kvHeads)) * headDim }
          let dP = kvAt.map { at in (0..<headDim).reduce(0.0) { $0 + dO[qAt + $1] * v[at + $1] } }
          let mean = zip(w.p, dP).reduce(0.0) { $0 + $1.0 * $1.1 }
          for (n, at) in kvAt.enumerated() {
            let dS = w.p[n] * (dP[n] - mean) * scale
            for x in 0..<headDim {
              out.q[qAt + x] += dS * k[at + x]
              out.k[at + x] += dS * q[qAt + x]
              out.v[at + x] += w.p[n] * dO[qAt + x]
            }
          }
        }
      }
    }
    return out
  }
}
