import CPUKernels

/// Rows of logits in host memory, `[rows, vocabulary]`, as distributions of the next token.
package enum Distributions {
  /// For each row KL(softmax(p) ‖ softmax(q)) in nats, and whether both hold the same token for the likeliest.
  package static func divergence(
    _ p: UnsafePointer<Float>, _ q: UnsafePointer<Float>, rows: Int, vocabulary: Int
  ) -> (divergence: [Double], agrees: [Bool]) {
    var (divergence, agrees) = ([Double](repeating: 0, count: rows), [UInt8](repeating: 0, count: rows))
    sl_divergence(
      Int64(rows), Int64(vocabulary), p, Int64(vocabulary), q, Int64(vocabulary), &divergence, &agrees)
    return (divergence, agrees.map { $0 != 0 })
  }

  /// A token of each row, drawn with a number in 0..<1.
  package static func draw(
    _ logits: UnsafePointer<Float>, rows: Int, vocabulary: Int, uniform: [Double]
  ) -> [Int32] {
    precondition(uniform.count == rows)
    var tokens = [Int32](repeating: 0, count: rows)
    sl_draw_tokens(Int64(rows), Int64(vocabulary), logits, Int64(vocabulary), uniform, &tokens)
    return tokens
  }
}
