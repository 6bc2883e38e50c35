extension ModelConfiguration {
  /// Whether checkpoints of this architecture hold queries, keys and values in one tensor, as Phi-3's do.
  public var storesFusedTensors: Bool { ModelFamily.named(architecture)?.rotatesPartially ?? false }

  /// Names and shapes of the tensors of a checkpoint in the Llama layout, in the order of the computation.
  public var tensors: [(name: String, shape: [Int])] {
    var tensors = [(name: "model.embed_tokens.weight", shape: [vocabularySize, hiddenSize])]
    for layer in 0..<layerCount {
      let path = "model.layers.\(layer)"
      tensors.append(("\(path).input_layernorm.weight", [hiddenSize]))
      for module in TargetModule.allCases {
        if module == .gate { tensors.append(("\(path).post_attention_layernorm.weight", [hiddenSize])) }
        let (outputs, inputs) = size(of: module)
        tensors.append((module.path(layer: layer) + ".weight", [outputs, inputs]))
        if hasBias(module) { tensors.append((module.path(layer: layer) + ".bias", [outputs])) }
      }
      if normalizesHeads {
        tensors.append(("\(path).self_attn.q_norm.weight", [headDimension]))
        tensors.append(("\(path).self_attn.k_norm.weight", [headDimension]))
      }
    }
    tensors.append(("model.norm.weight", [hiddenSize]))
    if !tiesEmbeddings { tensors.append(("lm_head.weight", [vocabularySize, hiddenSize])) }
    return tensors
  }
}
