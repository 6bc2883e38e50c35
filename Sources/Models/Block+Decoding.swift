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
    let attentionInputs: [TargetModule] = [.query, .key, .value]
    if try !projectNorm(
      of: x, attentionNorm, attentionInputs, into: [memory.q, memory.k, memory.v], memory, context, device)
    {
      try device.rmsNorm(
        x, attentionNorm, epsilon: context.epsilon, into: normed, rstd: memory.attentionRstd, saved: nil)
      try project(
        normed, attentionInputs, into: [memory.q, memory.k, memory.v], memory, dropout: nil, on: device)
    }
    try attend()
    try project(memory.attended, [.output], into: [x], memory, accumulate: true, dropout: nil, on: device)
    try addBias(of: .output, to: x, on: device)
    let isBiased = biases[.gate] != nil || biases[.up] != nil
    if try isBiased
      || !projectNorm(
        of: x, mlpNorm, [.gate, .up], into: [memory.gate, memory.up], memory, context, device, activation: activation)
    {
      try device.rmsNorm(x, mlpNorm, epsilon: context.epsilon, into: normed, rstd: memory.mlpRstd, saved: nil)
      try gateAndUp(normed, memory, activation: activation, context, on: device)
    }
    try project(activation, [.down], into: [x], memory, accumulate: true, dropout: nil, on: device)
    try addBias(of: .down, to: x, on: device)
  }

  /// Projections of the norm of `x` in one piece; false where the device does no such thing, or a magnitude scales them.
  private func projectNorm(
    of x: Tensor, _ norm: Tensor, _ modules: [TargetModule], into outputs: [Tensor], _ memory: BlockMemory,
    _ context: BlockContext, _ device: any Device, activation: Tensor? = nil
  ) throws -> Bool {
    guard let paged = device.pagedDecoding, !modules.contains(where: hasMagnitude) else { return false }
    return try paged.linear(
      normOf: x, norm, epsilon: context.epsilon, modules.map { self[$0] }, into: outputs,
      lowRank: memory.lowRank(modules), activation: activation)
  }

  /// What makes queries, keys and values ready for the cache.
  func projections(_ memory: BlockMemory, _ context: BlockContext) -> TokenProjections {
    TokenProjections(
      q: memory.q, k: memory.k, v: memory.v, biasQ: biases[.query], biasK: biases[.key], biasV: biases[.value],
      gammaQ: headNorms?.query, gammaK: headNorms?.key, epsilon: context.epsilon,
      cosines: rotates ? context.cosines : nil, sines: rotates ? context.sines : nil)
  }
}
