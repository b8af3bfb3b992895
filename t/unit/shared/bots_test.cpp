#include "shared/bots.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

namespace experiment::shared {
namespace {

TEST(Bots, ProgramsThatReadPagesAreKnown) {
  for (const char* agent :
       {"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36",
        "python-requests/2.31.0", "Scrapy/2.11 (+https://scrapy.org)", "Mediapartners-Google",
        "Pingdom.com_bot_version_1.4", "HTTrack 3.0x", "CCBot/2.0", "Chrome-Lighthouse", "a crawler", "BOT", "bot",
        "xbot"}) {
    EXPECT_TRUE(is_bot(agent)) << agent;
  }
}

TEST(Bots, PeopleAndBackendsAreNot) {
  for (const char* agent :
       {"", "-", "bo", "ot",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 Version/17.1 Mobile/15E148",
        "Mozilla/5.0 (Linux; Android 11; CUBOT_X30) AppleWebKit/537.36 Chrome/96.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; Android 9; Cubot P40) AppleWebKit/537.36", "okhttp/4.9", "curl/8.5.0"}) {
    EXPECT_FALSE(is_bot(agent)) << agent;
  }
  EXPECT_TRUE(is_bot("CUBOT; Googlebot/2.1")) << "a telephone's name hides nobody";
}

TEST(Bots, AWordIsFoundAnywhereInAnyCase) {
  std::mt19937 random(1);
  for (std::string word : {"bot", "crawl", "spider", "slurp", "scrap", "facebookexternalhit", "headless", "httrack",
                           "lighthouse", "pingdom", "python-requests", "mediapartners"}) {
    for (int i = 0; i < 100; ++i) {
      for (char& c : word) {
        if (c != '-') c = static_cast<char>(random() % 2 == 0 ? c | 0x20 : c & ~0x20);
      }
      const std::string before(random() % 4, 'x'), after(random() % 4, 'x');
      EXPECT_TRUE(is_bot(before + word + after)) << word;
      EXPECT_FALSE(is_bot(before + word.substr(0, word.size() - 1))) << word;
    }
  }
}

TEST(Bots, ATenKilobyteAgentIsReadToItsEnd) {
  EXPECT_FALSE(is_bot(std::string(10'240, 'b')));
  EXPECT_TRUE(is_bot(std::string(10'240, 'b') + "ot"));
}

}  // namespace
}  // namespace experiment::shared
