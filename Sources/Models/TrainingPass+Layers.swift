import Tensors

// Layers that keep from the forward pass to the backward one what the plan says of each, on the device or with the host.

extension TrainingPass {
  /// The forward pass over all layers, which leaves the residual stream after them in `x`.
  func forward(_ x: Tensor, _ context: BlockContext) throws {
    let rows = x.rows
    for (index, block) in model.blocks.enumerated() {
      let place = layout.hostPlace(of: index)
      if let place, place >= 2 { try hostStore?.wait(place - 2) }
      if !plan.roundsInputs, index < layout.inputs.count, let kept = layout.inputs[index] {
        try device.copy(x, to: arena[kept, rows: rows])
      }
      try block.forward(
        x, memory(index, rows), normed: scratch(layout.normed, rows), activation: scratch(layout.activation, rows),
        context, on: device)
      // The last two layers' memory is still there when it is needed.
      if let place, place < layout.hostLayers.count - 2 {
        try hostStore?.store(keptTensors(index, rows), in: place)
      }
    }
  }

  /// The backward pass over the layers from `lowest` on; `gradients.dx` is the residual stream's gradient before and after.
  func backward(
    _ gradients: BlockGradients, _ context: BlockContext, lowest: Int,
    observing: (Int) -> ((_ modules: [TargetModule], _ x: Tensor, _ gradients: [Tensor]) throws -> Void)?
  ) throws {
    let rows = gradients.dx.rows
    var context = context
    for (index, block) in model.blocks.enumerated().reversed() where index >= lowest {
      let place = layout.hostPlace(of: index)
      if let place, place < layout.hostLayers.count - 2 { try hostStore?.wait(place) }
      let input = index < layout.inputs.count ? layout.inputs[index] : nil
      let again = BlockRecomputation(
        kept: plan[index].keeps, input: input.map { arena[$0, rows: rows] },
        stream: layout.stream.map { scratch($0, rows) })
      context.observe = observing(index)
      let memory = memory(index, rows)
      try block.backward(
        memory, gradients, context, again: again, isFirst: index == 0 && model.full == nil, on: device)
      if let place, place >= 2 {
        try hostStore?.fetch(place - 2, into: keptTensors(layout.hostLayers[place - 2], rows))
      }
    }
  }

  /// What a layer whose memory goes to the host keeps there.
  private func keptTensors(_ layer: Int, _ rows: Int) -> [Tensor] {
    layout.kept(by: layer, plan).map { kept($0, rows) }
  }
}
