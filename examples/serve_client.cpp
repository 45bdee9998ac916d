// A client of `worldmodel serve` in C++ with libcurl: floats as bytes, so that no JSON has to be read.
//     g++ -std=c++17 examples/serve_client.cpp -lcurl -o serve_client && ./serve_client http://127.0.0.1:8000 17

#include <curl/curl.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

struct Answer {
  std::string body;
  size_t json_length = 0;  // the floats follow
};

size_t on_body(char *data, size_t size, size_t count, void *answer) {
  static_cast<Answer *>(answer)->body.append(data, size * count);
  return size * count;
}

size_t on_header(char *data, size_t size, size_t count, void *answer) {
  const std::string name = "inference-header-content-length:";
  std::string line(data, size * count);
  if (curl_strnequal(line.c_str(), name.c_str(), name.size()))
    static_cast<Answer *>(answer)->json_length = std::stoul(line.substr(name.size()));
  return size * count;
}

// One history of `frames` frames, row-major -> z.
std::vector<float> encode(const std::string &base, const std::vector<float> &features, size_t frames) {
  const size_t bytes = features.size() * sizeof(float), width = features.size() / frames;
  const std::string json = R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"features","datatype":"FP32",)"
                           R"("shape":[1,)" + std::to_string(frames) + "," + std::to_string(width) +
                           R"(],"parameters":{"binary_data_size":)" + std::to_string(bytes) + "}}]}";
  std::string body = json;
  body.append(reinterpret_cast<const char *>(features.data()), bytes);  // little-endian, as x86 and ARM are

  CURL *curl = curl_easy_init();
  const std::string url = base + "/v2/models/encoder/infer";
  curl_slist *headers = curl_slist_append(nullptr, ("Inference-Header-Content-Length: " + std::to_string(json.size())).c_str());
  if (const char *token = std::getenv("WORLDMODEL_TOKEN"))
    headers = curl_slist_append(headers, ("Authorization: Bearer " + std::string(token)).c_str());
  Answer answer;
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &answer);
  const CURLcode code = curl_easy_perform(curl);
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  curl_slist_free_all(headers);
  curl_easy_cleanup(curl);
  if (code != CURLE_OK) throw std::runtime_error(curl_easy_strerror(code));
  if (status != 200) throw std::runtime_error(answer.body);

  std::vector<float> z((answer.body.size() - answer.json_length) / sizeof(float));
  std::memcpy(z.data(), answer.body.data() + answer.json_length, z.size() * sizeof(float));
  return z;
}

int main(int, char **arguments) {
  const std::vector<float> frame(std::stoul(arguments[2]), 0.0f);
  try {
    for (float each : encode(arguments[1], frame, 1)) std::cout << each << " ";
    std::cout << std::endl;
  } catch (const std::exception &error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 1;
  }
}
