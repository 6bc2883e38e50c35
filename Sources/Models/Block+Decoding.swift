import Tensors

/// A layer's part of the pages that a prompt is written to and read from.
struct PagedLayer {
  var device: any PagedDecoding
  var layer: CacheLayer
  var pages: Tensor
  /// Tokens before the rows at hand, and how many of those are tokens.
  var begin: Int
  var count: Int

  /// Stores the rows' keys and values and attends to all there are.
  func attend(_ memory: BlockMemory, _ shape: AttentionShape) throws {
    try device.store(memory.k.prefix(count), memory.v.prefix(count), from: begin, in: layer, pages: pages)
    try device.attention(
      memory.q.prefix(count), after: begin, in: layer, pages: pages, shape, into: memory.attended.prefix(count))
  }
}

extension Block {
  /// One block over one new token of each of several sequences; `attend` is given queries, keys and values as the projections
  /// made them, and leaves attention's output.
  func decode(
    _ x: Tensor, _ memory: BlockMemory, normed: Tensor, activation: Tensor, _ context: BlockContext,
    on device: any Device, attend: () throws -> Void
  ) throws {
    try device.rmsNorm(x, attentionNorm, epsilon: context.epsilon, into: normed, rstd: memory.attentionRstd, saved: nil)
    try project(
      normed, [.query, .key, .value], into: [memory.q, memory.k, memory.v], memory, dropout: nil, on: device)
    try attend()
    try leaveAttention(x, memory, normed: normed, context, on: device)
    try gateAndUp(normed, memory, activation: activation, context, on: device)
    try project(activation, [.down], into: [x], memory, accumulate: true, dropout: nil, on: device)
    try addBias(of: .down, to: x, on: device)
  }

  /// What makes queries, keys and values ready for the cache.
  func projections(_ memory: BlockMemory, _ context: BlockContext) -> TokenProjections {
    TokenProjections(
      q: memory.q, k: memory.k, v: memory.v, biasQ: biases[.query], biasK: biases[.key], biasV: biases[.value],
      gammaQ: headNorms?.query, gammaK: headNorms?.key, epsilon: context.epsilon,
      cosines: rotates ? context.cosines : nil, sines: rotates ? context.sines : nil)
  }
}
