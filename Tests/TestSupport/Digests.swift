import CHub

/// The SHA-256 of bytes in hexadecimal digits.
public func sha256(_ bytes: [UInt8]) -> String {
  var digest = sl_digest()
  var result = [UInt8](repeating: 0, count: 32)
  sl_sha256_begin(&digest)
  sl_sha256_update(&digest, bytes, bytes.count)
  sl_sha256_end(&digest, &result)
  return hexadecimal(result)
}

/// Git's name of a file of these bytes.
public func gitBlob(_ bytes: [UInt8]) -> String {
  var digest = sl_digest()
  var result = [UInt8](repeating: 0, count: 20)
  let header = Array("blob \(bytes.count)\0".utf8)
  sl_sha1_begin(&digest)
  sl_sha1_update(&digest, header, header.count)
  sl_sha1_update(&digest, bytes, bytes.count)
  sl_sha1_end(&digest, &result)
  return hexadecimal(result)
}

private func hexadecimal(_ bytes: [UInt8]) -> String {
  bytes.map { byte in
    let digits = String(byte, radix: 16)
    return digits.count < 2 ? "0" + digits : digits
  }.joined()
}
