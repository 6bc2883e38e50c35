/// The names that llama.cpp and Hugging Face give the same tensors.
enum GGUFTensorNames {
  private static let outer = [
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
  ]

  private static let inBlock = [
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_qkv": "self_attn.qkv_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
  ]

  /// Hugging Face's name for a tensor of a GGUF, `nil` when it has none.
  ///
  /// `fusesGate`: the file keeps gate and up in one matrix, which llama.cpp calls "up".
  static func huggingFace(_ name: String, fusesGate: Bool = false) -> String? {
    if let known = outer[name] { return known }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4, parts[0] == "blk", let block = Int(parts[1]), block >= 0, String(block) == parts[1],
      let module = inBlock[String(parts[2])], parts[3] == "weight" || parts[3] == "bias"
    else { return nil }
    let fused = fusesGate && parts[2] == "ffn_up" ? "mlp.gate_up_proj" : module
    return "model.layers.\(block).\(fused).\(parts[3])"
  }

  /// llama.cpp's name for a tensor of Hugging Face's, `nil` when it has none.
  static func gguf(_ name: String) -> String? {
    if let known = outer.first(where: { $0.value == name }) { return known.key }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count >= 5, parts[0] == "model", parts[1] == "layers", Int(parts[2]) != nil, let kind = parts.last
    else {
      return nil
    }
    let module = parts[3..<parts.count - 1].joined(separator: ".")
    if module == "mlp.gate_up_proj" { return "blk.\(parts[2]).ffn_up.\(kind)" }
    return inBlock.first { $0.value == module }.map { "blk.\(parts[2]).\($0.key).\(kind)" }
  }

  /// In how many heads llama.cpp's converter reordered the rows of a tensor; 0 for none.
  ///
  /// It does so for the queries and keys of architectures that rotate neighbours instead of halves.
  static func permutedHeads(_ name: String, _ configuration: ModelConfiguration) -> Int {
    guard ModelFamily.named(configuration.architecture)?.pairsNeighboursInGGUF == true else { return 0 }
    if name.contains(".attn_q.") { return configuration.headCount }
    if name.contains(".attn_k.") { return configuration.keyValueHeadCount }
    return 0
  }
}
