// One side of a conversation over Fast DDS, inside an enclave of a keystore or without keys.
//
//     secured_peer ENCLAVE_FOLDER|none pub|sub TOPIC DOMAIN
//
// Uses what rmw_fastrtps uses: the same properties, the files of an SROS2 enclave. Says `ready`
// (or `refused`, and leaves with 3), then `heard` for every message, until its input ends.
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/DataReaderListener.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/topic/Topic.hpp>
#include <fastdds/dds/topic/TopicDataType.hpp>
#include <fastdds/dds/topic/TypeSupport.hpp>
#include <fastdds/rtps/transport/UDPv4TransportDescriptor.h>

using namespace eprosima::fastdds::dds;
using eprosima::fastrtps::rtps::InstanceHandle_t;
using eprosima::fastrtps::rtps::SerializedPayload_t;

class Word : public TopicDataType {
 public:
  Word() {
    setName("Word");
    m_typeSize = 64;
  }
  bool serialize(void* data, SerializedPayload_t* payload) override {
    std::memcpy(payload->data, data, sizeof(int));
    payload->length = sizeof(int);
    return true;
  }
  bool deserialize(SerializedPayload_t* payload, void* data) override {
    std::memcpy(data, payload->data, sizeof(int));
    return true;
  }
  std::function<uint32_t()> getSerializedSizeProvider(void*) override {
    return [] { return static_cast<uint32_t>(sizeof(int)); };
  }
  void* createData() override { return new int(0); }
  void deleteData(void* data) override { delete static_cast<int*>(data); }
  bool getKey(void*, InstanceHandle_t*, bool) override { return false; }
};

class Ear : public DataReaderListener {
 public:
  void on_data_available(DataReader* reader) override {
    int word = 0;
    SampleInfo info;
    while (reader->take_next_sample(&word, &info) == ReturnCode_t::RETCODE_OK) {
      if (info.valid_data) std::cout << "heard" << std::endl;
    }
  }
};

int refused(const std::string& what) {
  std::cout << "refused " << what << std::endl;
  return 3;
}

int main(int, char** argv) {
  const std::string enclave = argv[1], role = argv[2], name = argv[3];
  DomainParticipantQos qos = PARTICIPANT_QOS_DEFAULT;
  // By UDP alone: shared memory is shared with nodes of other versions too.
  qos.transport().use_builtin_transports = false;
  qos.transport().user_transports.push_back(
      std::make_shared<eprosima::fastdds::rtps::UDPv4TransportDescriptor>());
  if (enclave != "none") {
    auto& properties = qos.properties().properties();
    const std::string files = "file://" + enclave + "/", auth = "dds.sec.auth.builtin.PKI-DH.",
                      access = "dds.sec.access.builtin.Access-Permissions.";
    properties.emplace_back("dds.sec.auth.plugin", "builtin.PKI-DH");
    properties.emplace_back(auth + "identity_ca", files + "identity_ca.cert.pem");
    properties.emplace_back(auth + "identity_certificate", files + "cert.pem");
    properties.emplace_back(auth + "private_key", files + "key.pem");
    properties.emplace_back("dds.sec.crypto.plugin", "builtin.AES-GCM-GMAC");
    properties.emplace_back("dds.sec.access.plugin", "builtin.Access-Permissions");
    properties.emplace_back(access + "permissions_ca", files + "permissions_ca.cert.pem");
    properties.emplace_back(access + "governance", files + "governance.p7s");
    properties.emplace_back(access + "permissions", files + "permissions.p7s");
  }
  auto* participant = DomainParticipantFactory::get_instance()->create_participant(
      std::stoi(argv[4]), qos);
  if (!participant) return refused("participant");
  TypeSupport type(new Word());
  type.register_type(participant);
  auto* topic = participant->create_topic(name, "Word", TOPIC_QOS_DEFAULT);
  Ear ear;
  std::atomic<bool> over{false};
  DataWriter* writer = nullptr;
  if (role == "pub") {
    DataWriterQos reliable = DATAWRITER_QOS_DEFAULT;
    reliable.reliability().kind = RELIABLE_RELIABILITY_QOS;
    writer = participant->create_publisher(PUBLISHER_QOS_DEFAULT)->create_datawriter(topic, reliable);
    if (!writer) return refused("writer");
  } else {
    DataReaderQos reliable = DATAREADER_QOS_DEFAULT;
    reliable.reliability().kind = RELIABLE_RELIABILITY_QOS;
    auto* subscriber = participant->create_subscriber(SUBSCRIBER_QOS_DEFAULT);
    if (!subscriber->create_datareader(topic, reliable, &ear)) return refused("reader");
  }
  std::cout << "ready" << std::endl;
  std::thread speaks([&] {
    for (int word = 0; writer && !over; ++word) {
      writer->write(&word);
      usleep(50000);
    }
  });
  while (std::cin.get() != std::char_traits<char>::eof()) {
  }
  over = true;
  speaks.join();
  _exit(0);
}
