import Tensors

/// Memory that one block's backward pass works in, over `T` tokens or, where it says so, over a tile of them.
struct BlockGradients {
  /// The residual stream's gradient, `[T, hidden]`.
  var dx: Tensor
  /// Its compute copy, the operand of the next product: of a tile.
  var dxOperand: Tensor
  /// The gradient of a norm's output, fp32 `[tile, hidden]`.
  var dNormed: Tensor
  /// A norm's output again, compute `[tile, hidden]`.
  var normed: Tensor
  /// The activation again, compute `[tile, intermediate]`.
  var activation: Tensor
  /// Compute, as attention's own.
  var dAttended: Tensor
  /// The gradients of q, k and v, compute, as they lie; nil: they take the places of those.
  var heads: [Tensor]?
  /// dy · s·B of each module, compute `[tile, rank]`.
  var lowRank: [TargetModule: Tensor]
  /// Attention's workspace.
  var workspace: Tensor

  func lowRank(_ modules: [TargetModule]) -> [Tensor?] { modules.map { lowRank[$0] } }
}

/// What a block's backward pass needs to compute again what the forward pass did not keep.
struct BlockRecomputation {
  /// What the forward pass kept.
  var kept: LayerMemory
  /// The residual stream before the block, `[T, hidden]`, where less than the projections was kept.
  var input: Tensor?
  /// Room for the residual stream of a tile.
  var stream: Tensor?

  /// Copies some rows of the block's input to where they may be added to.
  func restart(_ rows: Range<Int>, on device: any Device) throws -> Tensor {
    guard let input, let stream else {
      throw ModelError("a block's forward pass kept nothing to compute it again from")
    }
    let x = stream.prefix(rows.count)
    try device.copy(input.rows(rows), to: x)
    return x
  }
}

extension Block {
  /// The block's backward pass: turns `gradients.dx` from the gradient after the block into the one before it and adds
  /// to the adapters' gradients.
  ///
  /// `memory.gate` and `memory.up` are used up, and q, k and v where their gradients have no places of their own. When `isFirst`, nothing below learns, and the gradient before the block
  /// is not computed.
  func backward(
    _ memory: BlockMemory, _ gradients: BlockGradients, _ context: BlockContext, again: BlockRecomputation,
    isFirst: Bool, on device: any Device
  ) throws {
    guard let logSumExp = memory.logSumExp else {
      throw ModelError("a block's forward pass kept nothing for its backward pass")
    }
    let total = gradients.dx.rows
    let tiles = context.tiles(of: total)
    if again.kept < .projections {
      for tile in tiles {
        try enterAttention(
          again.restart(tile, on: device), memory.rows(tile, of: total), normed: gradients.normed.prefix(tile.count),
          context.rows(tile), on: device)
      }
      if again.kept < .attention { try attend(memory, context, on: device) }
    }
    for tile in tiles {
      let (memory, gradients, context) = (
        memory.rows(tile, of: total), gradients.rows(tile, of: total), context.rows(tile)
      )
      if again.kept < .everything {
        // One tile's residual stream is still where attention's inputs were computed from.
        let x = again.kept >= .projections ? nil : tiles.count > 1 ? try again.restart(tile, on: device) : again.stream
        try mlpAgain(x?.prefix(tile.count), memory, gradients, context, on: device)
      }
      if tiles.count > 1 { try device.copy(gradients.dx, to: gradients.dxOperand) }
      try mlpBackward(memory, gradients, context, on: device)
      try outputBackward(memory, gradients, context, on: device)
    }
    let heads = gradients.heads ?? [memory.q, memory.k, memory.v]
    try device.attentionBackward(
      gradients.dAttended, memory.q, memory.k, memory.v, memory.attended, logSumExp: logSumExp,
      attention(context), context.spans, into: heads[0], heads[1], heads[2], workspace: gradients.workspace)
    for tile in tiles {
      try queryKeyValueBackward(
        memory.rows(tile, of: total), gradients.rows(tile, of: total), context.rows(tile), isFirst: isFirst,
        isWhole: tiles.count == 1, on: device)
    }
  }

  /// Gate and up, and what down's adapter reads, again; `x`: the residual stream before the block, which is used up, where
  /// its middle was not kept.
  private func mlpAgain(
    _ x: Tensor?, _ memory: BlockMemory, _ gradients: BlockGradients, _ context: BlockContext, on device: any Device
  ) throws {
    if let x {
      try leaveAttention(x, memory, normed: gradients.normed, context, on: device)
    } else if let xMiddle = memory.xMiddle {
      try device.rmsNormAgain(xMiddle, rstd: memory.mlpRstd, mlpNorm, into: gradients.normed)
    }
    // The MLP's output is of no use any more; its activation is where an adapter reads it.
    let activation = gradients.activation
    let wantsActivation = down[0].lowRank != nil
    try gateAndUp(gradients.normed, memory, activation: wantsActivation ? activation : nil, context, on: device)
    if hasMagnitude(.down) {
      try unscaledAgain(activation, .down, memory, dropout: context.dropout, on: device)
    } else if wantsActivation {
      try device.lowRankInput(activation, down, into: memory.lowRank([.down]), dropout: context.dropout)
    }
  }

  /// Down, then the activation, then gate and up and the norm before them: `dxOperand` holds dx in the end.
  private func mlpBackward(
    _ memory: BlockMemory, _ gradients: BlockGradients, _ context: BlockContext, on device: any Device
  ) throws {
    guard let xMiddle = memory.xMiddle else {
      throw ModelError("a block's forward pass kept nothing for its backward pass")
    }
    let dropout = context.dropout
    if dropped([.down], dropout) != nil {
      try projectBackward(
        [gradients.dxOperand], [.down], memory, lowRankGradients: gradients.lowRank([.down]),
        into: gradients.activation, dropout: dropout, on: device)
      try device.swiGLUBackward(gradients.activation, memory.gate, memory.up, y: gradients.activation)
    } else {
      try unscale(gradients.dxOperand, .down, memory, on: device)
      try device.linearSwiGLUBackward(
        gradients.dxOperand, down, lowRank: memory.lowRank([.down]), lowRankGradients: gradients.lowRank([.down]),
        gate: memory.gate, up: memory.up, activation: gradients.activation, dropout: dropout)
    }
    try device.linearBackwardA(
      gradients.activation, down, lowRankGradients: gradients.lowRank([.down]), dropout: dropout)
    try context.observe?([.down], gradients.activation, [gradients.dxOperand])
    try addWeightGradients([gradients.dxOperand], gradients.activation, [.down], on: device)
    try projectBackward(
      [memory.gate, memory.up], [.gate, .up], memory, lowRankGradients: gradients.lowRank([.gate, .up]),
      into: gradients.dNormed, dropout: dropout, on: device)
    if context.observe != nil || gateUp.contains(where: { $0.lowRank != nil || $0.gradient != nil }) {
      try device.rmsNormAgain(xMiddle, rstd: memory.mlpRstd, mlpNorm, into: gradients.normed)
      try context.observe?([.gate, .up], gradients.normed, [memory.gate, memory.up])
      try device.linearBackwardA(
        gradients.normed, gateUp, lowRankGradients: gradients.lowRank([.gate, .up]), dropout: dropout)
      try addWeightGradients([memory.gate, memory.up], gradients.normed, [.gate, .up], on: device)
    }
    try addNormGradient(gradients.dNormed, xMiddle, memory.mlpRstd, vectorGradients?.mlpNorm, on: device)
    try device.rmsNormBackward(
      gradients.dNormed, saved: xMiddle, rstd: memory.mlpRstd, mlpNorm, addingTo: gradients.dx,
      copy: gradients.dxOperand)
  }

  /// The projection after attention.
  private func outputBackward(
    _ memory: BlockMemory, _ gradients: BlockGradients, _ context: BlockContext, on device: any Device
  ) throws {
    try context.observe?([.output], memory.attended, [gradients.dxOperand])
    try projectBackward(
      [gradients.dxOperand], [.output], memory, lowRankGradients: gradients.lowRank([.output]),
      into: gradients.dAttended, dropout: context.dropout, on: device)
    try device.linearBackwardA(
      memory.attended, output, lowRankGradients: gradients.lowRank([.output]), dropout: context.dropout)
    try addWeightGradients([gradients.dxOperand], memory.attended, [.output], on: device)
  }

  /// The rotation, the norms of heads, q, k and v, and the norm before them.
  private func queryKeyValueBackward(
    _ memory: BlockMemory, _ gradients: BlockGradients, _ context: BlockContext, isFirst: Bool, isWhole: Bool,
    on device: any Device
  ) throws {
    guard let x = memory.x else { throw ModelError("a block's forward pass kept nothing for its backward pass") }
    let dropout = context.dropout
    let heads = gradients.heads ?? [memory.q, memory.k, memory.v]
    if rotates {
      for part in heads.prefix(2) {
        try device.rotate(
          part, headDimension: context.attention.headDimension, bias: nil, positions: context.positions,
          cosines: context.cosines, sines: context.sines, inverse: true)
      }
    }
    if let headNorms {
      guard let kept = memory.headNorms else {
        throw ModelError("a block's forward pass kept nothing for its backward pass")
      }
      try device.headNormBackward(heads[0], kept.q, rstd: kept.queryRstd, headNorms.query)
      try device.headNormBackward(heads[1], kept.k, rstd: kept.keyRstd, headNorms.key)
    }
    try projectBackward(
      heads, [.query, .key, .value], memory, lowRankGradients: gradients.lowRank([.query, .key, .value]),
      into: isFirst ? nil : gradients.dNormed, dropout: dropout, on: device)
    if context.observe != nil || queryKeyValue.contains(where: { $0.lowRank != nil || $0.gradient != nil }) {
      try device.rmsNormAgain(x, rstd: memory.attentionRstd, attentionNorm, into: gradients.normed)
      try context.observe?([.query, .key, .value], gradients.normed, heads)
      try device.linearBackwardA(
        gradients.normed, queryKeyValue, lowRankGradients: gradients.lowRank([.query, .key, .value]), dropout: dropout)
      try addWeightGradients(heads, gradients.normed, [.query, .key, .value], on: device)
    }
    guard !isFirst else { return }
    try addNormGradient(gradients.dNormed, x, memory.attentionRstd, vectorGradients?.attentionNorm, on: device)
    // Of several tiles, the next block copies each when it comes to it.
    try device.rmsNormBackward(
      gradients.dNormed, saved: x, rstd: memory.attentionRstd, attentionNorm, addingTo: gradients.dx,
      copy: isWhole ? gradients.dxOperand : nil)
  }
}
